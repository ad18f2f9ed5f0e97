"""How a patch to SGLang is described, verified and applied.

patch    `Patch`: target, hook, reason, and the fingerprint of the source it was written for
verify   checks a patch against the installed SGLang
apply    hands patches to SGLang's hook registry and remembers which are active
"""
