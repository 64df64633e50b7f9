package queue

import "context"

// tookKey marks the key of a try that was in doubt and is not any more.
func tookKey(key string) string { return "took " + key }

// known tells whether the draft is there under its key, or by an earlier try: then it has that
// message from now on, and nobody else will.
func (d *draft) known(t tx, now int64) (there bool, err error) {
	if d.key == "" {
		return false, nil
	}
	id, there, err := t.keyed(d.key)
	if err != nil || there {
		d.m.id = id
		return there, err
	}
	for _, key := range d.before {
		id, ok, err := t.keyed(key)
		if err != nil {
			return false, err
		}
		_, took, err := t.keyed(tookKey(key))
		if err != nil {
			return false, err
		}
		if ok && !took && !there {
			d.m.id, there = id, true
		}
	}
	if !there {
		return false, nil
	}
	if err := t.rememberBeside(d.key, d.m.id, now+keyAge.Milliseconds()); err != nil {
		return false, err
	}
	return true, d.takeBefore(t, now)
}

// takeBefore notes that the earlier tries are in doubt no more: those that have come to be stand
// for this draft, and others come too late.
func (d *draft) takeBefore(t tx, now int64) error {
	for _, key := range d.before {
		for _, key := range []string{key, tookKey(key)} {
			if _, ok, err := t.keyed(key); err != nil {
				return err
			} else if ok {
				continue
			}
			if err := t.rememberBeside(key, d.m.id, now+keyAge.Milliseconds()); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyed returns the message that a key was given to.
func (t tx) keyed(key string) (id ID, ok bool, err error) {
	v, ok, err := t.Get(keyKey(key))
	if err != nil || !ok {
		return 0, false, err
	}
	id, err = decodeKeyRecord(v)
	return id, err == nil, err
}

// rememberBeside is remember for a message that has keys already: each has an alarm of its own.
func (t tx) rememberBeside(key string, id ID, until int64) error {
	for {
		_, ok, err := t.Get(alarmKey(alarmForget, id, until))
		if err != nil {
			return err
		}
		if !ok {
			return t.remember(key, id, until)
		}
		until++
	}
}

// partKey is a context whose entries go into the part of a number.
type partKey struct{}

// InPart returns a context whose entries go into a part, since keys of earlier tries lie there.
func InPart(ctx context.Context, number uint64) context.Context {
	return context.WithValue(ctx, partKey{}, number)
}
