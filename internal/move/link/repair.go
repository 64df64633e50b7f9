package link

import (
	"bytes"
	"cmp"
	"context"
	"fmt"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// Repair brings the records of links into accord while nobody else uses the engine: a damaged
// rule goes with all that belongs to it, a link whose sign-in is damaged waits for another
// one. It reports what is lost.
func Repair(ctx context.Context, e engine.Engine, report func(id ID, what string)) error {
	type told struct {
		id   ID
		what string
	}
	var lost []told
	err := e.Update(ctx, Shard, func(w engine.Writer) error {
		lost = nil
		if err := allKnown(w); err != nil {
			return err
		}
		note := func(id ID, format string, args ...any) { lost = append(lost, told{id, fmt.Sprintf(format, args...)}) }
		good, last, err := surveyed(w, note)
		if err != nil {
			return err
		}
		for id := range good {
			if err := mendSecret(w, id, note); err != nil {
				return err
			}
		}
		if have, err := lastID(w); fault.Is(err, fault.Corrupt) || err == nil && have < last {
			var e record.Enc
			e.U(uint64(last))
			return w.Put([]byte{famLast}, record.Seal(recLast, e))
		} else if err != nil {
			return err
		}
		return nil
	})
	if err == nil {
		for _, t := range lost {
			report(t.id, t.what)
		}
	}
	return err
}

// allKnown returns a fault of kind Unsupported if there is a record of a newer program: it is
// whole, and there is nothing to mend by who does not know what it says.
func allKnown(r engine.Reader) (err error) {
	scanned := r.Scan(nil, nil, false, func(_, v []byte) bool {
		if _, err = unseal(v, 0, "record of links"); !fault.Is(err, fault.Unsupported) {
			err = nil
		}
		return err == nil
	})
	return cmp.Or(scanned, err)
}

// surveyed removes what is damaged, or belongs to no rule, and returns the rules that are left
// and the highest number of any record.
func surveyed(w engine.Writer, note func(ID, string, ...any)) (good map[ID]bool, last ID, err error) {
	good = map[ID]bool{}
	var gone [][]byte
	err = w.Scan(nil, nil, false, func(k, v []byte) bool {
		id := ID(engine.Num(k, 0))
		if k[0] == famLast {
			return true
		}
		last = max(last, id)
		switch k[0] {
		case famRule:
			if _, err := decodeRule(id, v); err != nil {
				note(id, "the rule of link %d is damaged; the link is gone, make it again with: martlet link add", id)
				gone = append(gone, bytes.Clone(k))
				return true
			}
			good[id] = true
		case famSecret, famState: // after all rules
			if !good[id] {
				gone = append(gone, bytes.Clone(k))
			}
		default:
			gone = append(gone, bytes.Clone(k))
		}
		return true
	})
	for _, k := range gone {
		if err == nil {
			err = w.Delete(k)
		}
	}
	return good, last, err
}

// mendSecret has a link without a whole sign-in wait for another one.
func mendSecret(w engine.Writer, id ID, note func(ID, string, ...any)) error {
	v, ok, err := w.Get(key(famSecret, id))
	if err != nil {
		return err
	}
	bad := !ok
	if ok {
		_, err := unseal(v, recSecret, "sign-in of a link")
		bad = err != nil
	}
	r, s, err := readBoth(w, id)
	if err != nil {
		return err
	}
	if bad {
		note(id, "what signs in for link %d is lost; give it again with: martlet link passwd %d", id, id)
		if err := w.Delete(key(famSecret, id)); err != nil {
			return err
		}
		s = state{Pause: needsPassword, Failures: 1, Kind: fault.Corrupt, Error: "the stored one was damaged", Last: s.Last, Brought: s.Brought}
		if r.OAuth != "" {
			s.Pause = needsSignIn
		}
	}
	return w.Put(key(famState, id), s.encode())
}
