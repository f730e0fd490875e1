"""``runops explain``: which rule gives which verdict on a run. What a verdict is, is decided in the core."""

from __future__ import annotations

import argparse
import json

from runops.cli import notes, settings
from runops.cli.output import printable, say
from runops.cli.verdict_codes import CODES
from runops.core.waiting import flows
from runops.core.waiting.explanation import explain_verdict


def explain(options: argparse.Namespace) -> int:
    """Read a run once and say why it gets its verdict; the exit code is that of ``get``."""
    provider = settings.provider(options)
    policy = settings.policy(provider, options)
    limits = settings.wait_options(provider, options, policy, now=0.0)
    ref = settings.address(provider, options, options.run_id)
    with settings.connect(provider) as client, notes.waiting_for(provider, client.root):
        observation = client.drive(flows.look(client.provider, ref, wanted=policy.expect.details))
        explanation = explain_verdict(client.provider, observation, policy, limits, client.clock())
    if options.json:
        say(json.dumps(explanation.to_dict()))
    else:
        for line in explanation.lines:
            say(printable(line))
    return 0 if explanation.judgement is None else CODES[explanation.judgement.verdict]
