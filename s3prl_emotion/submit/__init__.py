"""Files for the leaderboards of SUPERB's ER task and of EMO-SUPERB, checked against their own lists."""
