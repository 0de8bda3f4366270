"""The Free Music Archive: its tables, its known faults, its audio layout."""
