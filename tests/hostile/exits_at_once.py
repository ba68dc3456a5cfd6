# EXPECT: could_not_run bytes: ended at its start with status 0
raise SystemExit(0)
