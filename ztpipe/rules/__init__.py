"""Network rules: the rule language and its compiler, and the evaluator of rules over frames."""
