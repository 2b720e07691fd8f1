"""The verb backtest: the judge replayed over a history, from the store or from a CSV file."""
