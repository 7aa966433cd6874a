"""What methods are made of: descent on weights, draws, schedules of priorities, rates, checks."""
