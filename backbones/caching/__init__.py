"""What a run computes once and uses again: a `plan.Plan`, read by attention, by trunks of blocks, by
guidance."""
