"""What the fuzz tests share: real files, ways to damage them, a watch over what reads them."""
