"""RedCouch as a client of real memcacheds."""
