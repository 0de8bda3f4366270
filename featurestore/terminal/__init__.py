"""What every command shares with the person who types it: options, tables, progress."""
