package queue

// Whoever puts mail into a part, or orders something there, need not be who works it, and their
// clocks may differ by any time. What is written into another's part goes by that one's clock,
// as far as his last look at it is on record.

// looked returns when the part was last seen to look at its clock; ok is false if that is not
// known.
func (l look) looked() (at int64, ok bool, err error) {
	v, ok, err := l.Get([]byte{famLook})
	if err != nil || !ok {
		return 0, false, err
	}
	if at, err = decodeLook(v); err != nil {
		return 0, false, nil // it is written anew
	}
	return at, true, nil
}

// elsewhere tells whether somebody else may work the part.
func (q *Queue) elsewhere() bool { return q.shared && !q.follows.Load() }

// soon is a time of this node's clock as one that is due now for whoever works the part.
func (t tx) soon(now int64) (int64, error) {
	if !t.b.q.elsewhere() {
		return now, nil
	}
	at, ok, err := t.look().looked()
	if err == nil && ok {
		now = min(now, at+noteEvery.Milliseconds())
	}
	return now, err
}

// abreast gives a draft times that whoever works the part does not take for past: a clock that
// is behind his would have mail given up before it was tried. One that is ahead is seen to by
// his looks.
func (d *draft) abreast(t tx, now int64) error {
	if !t.b.q.elsewhere() || d.m.deadline() != 0 || d.m.release() != 0 {
		return nil
	}
	at, ok, err := t.look().looked()
	if err != nil || !ok {
		return err
	}
	behind := max(0, at-now)
	more := behind - d.behind
	d.behind = behind
	for _, when := range [...]*int64{&d.m.created, &d.m.expires, &d.m.expiryAt, &d.m.delayAt} {
		if *when != 0 {
			*when += more
		}
	}
	for i := range d.groups {
		g := &d.groups[i]
		g.next += more
		if d.atOnce {
			g.next = min(g.next, at+noteEvery.Milliseconds())
		}
	}
	return nil
}
