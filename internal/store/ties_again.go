package store

// DropTie forgets a tie: under the key of its message at the source another is, or will be.
func (tx *Tx) DropTie(box TiedBox, key string) error { return tx.w.Delete(box.tieKey(key)) }
