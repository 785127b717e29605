"""What was asked and answered, and the profiles it adds up to."""

import pandas as pd

from feature_store.store import Store


def profile(store: Store, run: str, centred: bool = True) -> pd.DataFrame:
    """Overview, Steer: the value profiles of a run, unsteered first."""
    return store.sql(
        "SELECT steering, value, mean, low, high, n, parsed, missing FROM profiles WHERE run = ? AND centred = ? "
        "ORDER BY steering <> 'base', steering, value",
        [run, centred],
    )


def responses(store: Store, run: str, steering: str) -> pd.DataFrame:
    """Profiles: every response of one steering, as it was stored."""
    return store.sql('SELECT * EXCLUDE (run) FROM responses WHERE run = ? AND steering = ? ORDER BY seed, context, wording, "order", item', [run, steering])


def prompts(store: Store, run: str) -> pd.DataFrame:
    """Profiles: what was asked, by context and item."""
    return store.sql('SELECT * EXCLUDE (run) FROM prompts WHERE run = ? ORDER BY context, item, wording, "order"', [run])


def quality(store: Store, run: str) -> pd.DataFrame:
    """Profiles: what stands beside the profiles of a run, by steering and metric."""
    return store.sql("SELECT * EXCLUDE (run) FROM quality WHERE run = ? ORDER BY steering <> 'base', steering, metric", [run])


def item_responses(store: Store, run: str, steering: str, value: str, limit: int = 25, offset: int = 0) -> pd.DataFrame:
    """Profiles, one value: single answers with what was asked, by item; `total` counts all."""
    return store.sql(
        "SELECT r.item, r.context, r.wording, r.\"order\", r.seed, p.prompt, r.text, r.rating, r.status, count(*) OVER () AS total FROM responses AS r "
        'LEFT JOIN prompts AS p ON p.run = r.run AND p.context = r.context AND p.item = r.item AND p.wording = r.wording AND p."order" = r."order" '
        "WHERE r.run = ? AND r.steering = ? AND (? = '' OR r.value = ? OR r.value = '') ORDER BY r.item, r.context, r.wording, r.\"order\", r.seed LIMIT ? OFFSET ?",
        [run, steering, value, value, limit, offset],
    )
