"""What answers cost: counted, limited, told."""
