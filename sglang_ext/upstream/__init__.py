"""The parts of SGLang that the overlay touches, as Protocols.

Each Protocol names its SGLang class in its first line and has only the members that the overlay uses.
`tests/sglang_ext/test_upstream.py` checks that the classes still have them. Importing this package imports
nothing of SGLang. Values that SGLang's own calls pass through stay `Any` in the hooks.
"""
