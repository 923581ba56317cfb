"""Compares tallyd's costs with those of LiteLLM and genai-prices, usage by usage.

For each vendor, COUNT random usages (100,000 unless the environment says otherwise) over its built-in models and their service
tiers (standard, batch, flex, priority, fast). Many are within two tokens of an edge where a rate changes with the size of the
prompt. Each is priced as of the day on which the prices were checked, or of a later day on which an announced price begins, so
that the result does not depend on the day of the test. LiteLLM's map knows no days, and is asked about the first alone. A peer
is not asked about a model that it does not know. Where a peer's cost differs from tallyd's, disagreements.toml must name the
model, the side that is right, and the reason; and each of its entries must still be found. Then each spelling of
spellings.toml is priced and compared with LiteLLM's entry of that model, platforms included. Exits 1 otherwise.

    compare.py [--tallyd PROGRAM] [--seed N] [--show]
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tomllib
from collections import Counter
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COUNT = int(os.environ.get("COUNT", "100000"))
EDGES = [100_000, 128_000, 200_000, 256_000, 272_000]
TIERS = ["standard", "batch", "flex", "priority", "fast"]
BUCKETS = ["input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"]
# The day on which the built-in prices and disagreements.toml were checked.
CHECKED = "2026-11-29"
# The rounding errors of binary floats.
RELATIVE, ABSOLUTE = 1e-9, 1e-12


def catalog():
    """The models of the built-in files by vendor: (name, service tier, the buckets that have a rate, the days to ask about)."""
    rated, days = {}, {}
    for file in ["crates/model/src/pricing/catalog.toml", "crates/model/src/pricing/catalog/lists.toml"]:
        for model in tomllib.loads((ROOT / file).read_text())["model"]:
            for price in model["price"]:
                key = (model["provider"], model["name"], price.get("service_tier", "standard"))
                rated.setdefault(key, set()).update(price.get("per_million", {}))
                days.setdefault(key[:2], {CHECKED}).add(max(price.get("effective_from", CHECKED), CHECKED))
    models = {"claude": [], "openai": [], "google": []}
    for (provider, name, tier), buckets in rated.items():
        # A model with rates of other units only has no tokens to compare.
        if provider in models and tier in TIERS and "input" in buckets:
            models[provider].append((name, tier, buckets, sorted(days[provider, name])))
    return models


def usage(rng, provider, models):
    """One usage. Its buckets are disjoint, and their sum decides the size tier."""
    name, tier, rated, days = rng.choice(models)
    total = rng.choice(EDGES) + rng.randint(-2, 2) if rng.random() < 0.5 else int(10 ** rng.uniform(0, 6))
    buckets = [bucket for bucket in BUCKETS if bucket == "input_tokens" or bucket.removesuffix("_tokens") in rated]
    # A third of the usages has a single bucket, which shows the cause of a disagreement.
    used = [rng.choice(buckets)] if rng.random() < 0.33 else rng.sample(buckets, rng.randint(1, len(buckets)))
    cuts = sorted(rng.randint(0, total) for _ in used[1:])
    parts = [end - start for start, end in zip([0, *cuts], [*cuts, total])]
    output = 0 if "output" not in rated or rng.random() < 0.2 else int(10 ** rng.uniform(0, 5))
    return {
        "provider": provider,
        "model": name,
        "service_tier": tier,
        "occurred_at": f"{rng.choice(days)}T00:00:00Z",
        "output_tokens": output,
        **dict(zip(used, parts)),
    }


def tallyd(program, usages):
    """USD of each usage, from the program that users run."""
    lines = "".join(json.dumps(each) + "\n" for each in usages)
    command = [program, "prices", "cost", "--builtin"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0 or len(answers) != len(usages):
        sys.exit(f"{' '.join(command)} failed: {done.stderr}{done.stdout[:300]}")
    return [None if answer["cost_usd"] is None else float(answer["cost_usd"]) for answer in answers]


class LiteLLM:
    """LiteLLM's cost calculator: `generic_cost_per_token`, and `batch_cost_calculator` for batches."""

    name = "litellm"
    providers = {"claude": "anthropic", "openai": "openai", "google": "gemini"}

    def __init__(self):
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        import litellm
        from litellm.cost_calculator import batch_cost_calculator
        from litellm.litellm_core_utils.llm_cost_calc.utils import generic_cost_per_token
        from litellm.types.utils import CacheCreationTokenDetails, PromptTokensDetailsWrapper, Usage

        self.map, self.Usage, self.Details = litellm.model_cost, Usage, PromptTokensDetailsWrapper
        self.CacheCreation = CacheCreationTokenDetails
        self.batch, self.standard = batch_cost_calculator, generic_cost_per_token

    def knows(self, each):
        provider, model, tier = each["provider"], each["model"], each["service_tier"]
        if not each["occurred_at"].startswith(CHECKED):
            return False
        name = model if provider != "google" else f"gemini/{model}"
        rates = self.map.get(name)
        end = {"standard": "", "batch": "_batches"}.get(tier, f"_{tier}")
        # Text-completion models have another provider name, and a calculator of their own.
        is_vendors = bool(rates) and rates["litellm_provider"] == self.providers[provider]
        return is_vendors and "input_cost_per_token" + end in rates

    def cost(self, each):
        read = each.get("cache_read_tokens", 0)
        short, long = each.get("cache_write_5m_tokens", 0), each.get("cache_write_1h_tokens", 0)
        text = each.get("input_tokens", 0)
        details = self.Details(
            cached_tokens=read,
            text_tokens=text,
            cache_creation_tokens=short + long,
            cache_creation_token_details=self.CacheCreation(
                ephemeral_5m_input_tokens=short, ephemeral_1h_input_tokens=long
            ),
        )
        usage = self.Usage(
            prompt_tokens=text + read + short + long,
            completion_tokens=each["output_tokens"],
            total_tokens=text + read + short + long + each["output_tokens"],
            prompt_tokens_details=details,
            cache_creation_input_tokens=short + long,
            cache_read_input_tokens=read,
        )
        vendor, tier = self.providers[each["provider"]], each["service_tier"]
        if tier == "batch":
            return sum(self.batch(model=each["model"], usage=usage, custom_llm_provider=vendor))
        tier = {} if tier == "standard" else {"service_tier": tier}
        return sum(self.standard(model=each["model"], usage=usage, custom_llm_provider=vendor, **tier))


class GenaiPrices:
    """genai-prices: `calc_price`; its input tokens include those of caches."""

    name = "genai-prices"
    providers = {"claude": "anthropic", "openai": "openai", "google": "google"}

    def __init__(self):
        from genai_prices import Usage, calc_price

        self.Usage, self.calc_price = Usage, calc_price
        self.known = {}

    def knows(self, each):
        provider, model, tier = each["provider"], each["model"], each["service_tier"]
        if model not in self.known:
            try:
                found = self.calc_price(self.Usage(input_tokens=1), model, provider_id=self.providers[provider])
                # It matches names by patterns, and may find the price of another model.
                is_same = found.model.id.replace(":", "-") == model
                variants = found.model.price_variants or []
                self.known[model] = {value: variant.when for variant in variants for value in variant.when.values()}
                self.known[model] |= {"standard": {}}
                self.known[model] = self.known[model] if is_same else {}
            except LookupError:
                self.known[model] = {}
        return tier in self.known[model]

    def cost(self, each):
        read = each.get("cache_read_tokens", 0)
        short, long = each.get("cache_write_5m_tokens", 0), each.get("cache_write_1h_tokens", 0)
        counts = {"input_tokens": each.get("input_tokens", 0) + read + short + long}
        counts["output_tokens"] = each["output_tokens"]
        if read:
            counts["cache_read_tokens"] = read
        if short or long:
            counts["cache_write_tokens"] = short + long
        if long:
            counts["cache_write_1h_tokens"] = long
        found = self.calc_price(
            self.Usage(**counts),
            each["model"],
            provider_id=self.providers[each["provider"]],
            genai_request_timestamp=datetime.fromisoformat(each["occurred_at"]),
            price_context=self.known[each["model"]].get(each["service_tier"]) or None,
        )
        return float(found.total_price)


def differs(ours, theirs):
    return ours is None or abs(ours - theirs) > ABSOLUTE + RELATIVE * max(abs(ours), abs(theirs))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tallyd", default=os.environ.get("TALLYD_BIN", ROOT / "target/debug/tallyd"))
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--show", action="store_true", help="print an example of each disagreement")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {COUNT} usages a vendor")
    peers = [LiteLLM(), GenaiPrices()]
    found, compared, examples = Counter(), Counter(), {}
    for provider, models in catalog().items():
        rng = random.Random(f"{arguments.seed} {provider}")
        usages = [usage(rng, provider, models) for _ in range(COUNT)]
        costs = tallyd(str(arguments.tallyd), usages)
        for each, ours in zip(usages, costs):
            for peer in peers:
                if not peer.knows(each):
                    continue
                key = (peer.name, each["model"], each["service_tier"])
                compared[key] += 1
                theirs = peer.cost(each)
                if differs(ours, theirs):
                    found[key] += 1
                    example = examples.get(key)
                    if example is None or len(each) < len(example[0]):
                        examples[key] = (each, ours, theirs)
        for peer in peers:
            mine = [key for key in compared if key[0] == peer.name and any(key[1] == name for name, *_ in models)]
            count = sum(compared[key] for key in mine)
            print(f"{provider}: {count} compared with {peer.name}, {len(mine)} models and tiers")
    wrong = spellings(str(arguments.tallyd), peers[0].map)
    return max(judge(found, compared, examples, arguments.show), wrong)


def spellings(program, rates):
    """Prices each spelling; those that name no model must be unpriced. Returns 1 if one is wrong."""
    listed = tomllib.loads((HERE / "spellings.toml").read_text())
    known = [each for vendor in listed["vendor"] for each in vendor["spellings"]]
    usages = [
        {"input_tokens": 1_000, "output_tokens": 10, "occurred_at": f"{CHECKED}T00:00:00Z"}
        | {"provider": each["provider"], "model": each["model"]}
        for each in known + listed["unpriced"]["spellings"]
    ]
    for each in usages:
        if "embed" in each["model"] or "voyage" in each["model"]:
            del each["output_tokens"]
    wrong = compared = 0
    for each, usage, ours in zip(known, usages, tallyd(program, usages)):
        entry = rates.get(each.get("litellm", ""), {})
        theirs = sum(
            usage.get(bucket, 0) * entry.get(field, 0)
            for bucket, field in [("input_tokens", "input_cost_per_token"), ("output_tokens", "output_cost_per_token")]
        )
        compared += bool(entry)
        if ours is None or (entry and differs(ours, theirs)) or ("litellm" in each and not entry):
            print(f"SPELLING: {each}: tallyd {ours}, litellm {theirs if entry else 'does not list it'}")
            wrong += 1
    for usage, ours in list(zip(usages, tallyd(program, usages)))[len(known) :]:
        if ours is not None:
            print(f"SPELLING: {usage} is no model's, and is priced at {ours}")
            wrong += 1
    print(f"{len(known)} spellings, {compared} compared with litellm: {wrong} are wrong")
    return 1 if wrong else 0


def judge(found, compared, examples, show):
    listed = tomllib.loads((HERE / "disagreements.toml").read_text()).get("disagreement", [])
    expected = {(each["peer"], model, each["tier"]) for each in listed for model in each["models"]}
    for key in sorted(found):
        if show or key not in expected:
            each, ours, theirs = examples[key]
            mark = "" if key in expected else "NOT LISTED: "
            print(f"{mark}{key}: {found[key]} of {compared[key]}, such as {each}: tallyd {ours}, {key[0]} {theirs}")
    gone = sorted(expected - set(found))
    for key in gone:
        print(f"NOT FOUND ANY MORE: {key}: mend disagreements.toml")
    print(f"{len(found)} of {len(compared)} models and tiers disagree; {len(expected)} are listed")
    return 1 if gone or set(found) - expected else 0


if __name__ == "__main__":
    sys.exit(main())
