"""Measure what a model knows of some rows, and show the objective that this suggests.

python examples/probe_rows.py [MODEL [train.jsonl]]
"""

from tiny_model import model_and_data

from probtune import probe


def main(name: str, data: str):
    """Return the probe: one forward pass over a sample of the rows."""
    return probe(name, data)


if __name__ == "__main__":
    measured = main(*model_and_data())
    print(measured)
    print(f"probtune tune MODEL DATA --objective '{measured.suggestion.objective}'")
