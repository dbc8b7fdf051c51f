"""Files for the leaderboards of others, checked against their own lists: SUPERB's ER task, EMO-SUPERB."""
