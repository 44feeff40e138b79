"""A simulator of Anthropic's Messages API, in a process of its own.

`claude-proxy --demo`, the tests and the benchmarks point the real Claude Code CLI at it
(`ANTHROPIC_BASE_URL`). It asks no model: the prompt itself may say how to answer, see
`claude_proxy.simulator.directives` for that language; everything else about the answer (event
order, request checks, prompt caching, usage) is as the API does it.
"""
