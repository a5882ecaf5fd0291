"""What every server of the house needs: an address to listen on, headers, sizes, and how often somebody may ask."""
