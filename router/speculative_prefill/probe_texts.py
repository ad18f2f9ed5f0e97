"""Texts by which tokenizers of servers without a fingerprint are told apart: what many of them tokenize differently."""

PROBE_TEXTS = (
    # Scripts, numbers, spaces, code and an emoji
    "The 1,234 naïve cats' Straße  \n\n\tdef f(x_1): return [x**2]  # 質問 вопрос سؤال 😀 <|im_end|></s>",
    # Special tokens of common chat templates, known to some tokenizers only or under other ids
    "<s></s><unk><pad><bos><eos><mask><|endoftext|><|end_of_text|><|begin_of_text|><|im_start|>system\n<|im_end|>",
    "<|start_header_id|>user<|end_header_id|>\n\n<|eot_id|><|eom_id|><|python_tag|><|finetune_right_pad_id|>",
    "<start_of_turn>model\n<end_of_turn><|user|><|assistant|><|system|><|end|><|return|><|channel|>final<|message|>",
    "[INST] [/INST][SYSTEM_PROMPT][AVAILABLE_TOOLS][TOOL_CALLS][IMG]",
    "<\uff5cUser\uff5c><\uff5cAssistant\uff5c><\uff5cend\u2581of\u2581sentence\uff5c>",
    "<think>\n</think>\n<tool_call></tool_call><tool_response></tool_response><|object_ref_start|><|vision_start|>",
    "<|fim_prefix|><|fim_middle|><|fim_suffix|><|file_sep|><repo_name><jupyter_code><issue_start><commit_before>",
    # Words that only a large vocabulary has whole, in several languages
    "Notwithstanding internationalization, electroencephalographically speaking; misunderstandings, rhododendrons.",
    "Donaudampfschifffahrtsgesellschaft, peut-être aujourd'hui, mañana también, świadomość, příležitost, kütüphane",
    "Следовательно, взаимодействие; Ευχαριστώ πολύ; תודה רבה; شكراً جزيلاً; धन्यवाद; ขอบคุณมาก;",
    "ありがとうございます; 감사합니다; 谢谢大家; 人民共和国; 東京都",
    # Numbers, by one digit, three or more; fractions and signs
    "0 7 10 42 100 365 1000 1999 2024 31415 100000 1234567 9876543210 3.14159 -0.5e-10 0x1F ½ ² ₃ Ⅳ ٣ 五",
    # Spaces and ends of lines, alone and before words
    " a  b   c    d     e        f\n\n\n\tg\t\th\r\ni \u00a0j\u2003k\u200bl \n m\n  n\n    o\n        p",
    # Code and markup
    'for (int i = 0; i != n; ++i) { if (a[i] >= b->c && !d) return "x\\n"; } /* ... */ // ==== ---- #### ****',
    '<div class="main"><a href="https://example.com/?q=1&r=%20">&nbsp;</a></div> $\\frac{1}{2}$ {"key": [true, 1e5]}',
    "SELECT * FROM users WHERE name LIKE '%son'; import numpy as np; self.__init__(*args, **kwargs) -> None:",
    # Characters of several bytes, combined or rare
    "\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea e\u0301 \ufb01 \U0001d518 \U00013000 \ua66e \ufeff \u202e",
    "don\u2019t \u201cquoted\u201d \u2026 \u2014 \u2122",
    # Words in the cases that tokenizers fold or split
    "HELLO Hello hello hELLO camelCaseWord snake_case_word kebab-case-word I'm you're WE'LL they've",
)
