package link

import (
	"context"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Verify reads every record and reports those that are damaged, or whose account or sign-in
// is missing. It returns how many links there are.
func (l *Links) Verify(ctx context.Context, report func(id ID, what string)) (n int, err error) {
	err = l.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
		n = 0
		last, err := lastID(r)
		if err != nil {
			if !fault.Is(err, fault.Corrupt) {
				return err
			}
			report(0, "the number of the last link: "+fault.Say(err))
		}
		return r.Scan(nil, nil, false, func(k, v []byte) bool {
			id := ID(engine.Num(k, 0))
			var bad error
			switch k[0] {
			case famRule:
				n++
				var rule Rule
				if rule, bad = decodeRule(id, v); bad == nil {
					bad = l.verifySecret(r, rule)
				}
				if bad == nil && id > last && err == nil {
					bad = fault.Newf(fault.Corrupt, "its number is higher than the last one given, %d", last)
				}
			case famSecret: // read with its rule
				if _, ok, err := r.Get(key(famRule, id)); err == nil && !ok {
					bad = fault.New(fault.Corrupt, "there is a sign-in of no link")
				}
			case famState:
				_, bad = decodeState(v)
			case famLast:
			default:
				bad = fault.Newf(fault.Corrupt, "an unknown record %x", k)
			}
			if bad != nil {
				report(id, fault.Say(bad))
			}
			return true
		})
	})
	return n, err
}

func (l *Links) verifySecret(r engine.Reader, rule Rule) error {
	v, ok, err := r.Get(key(famSecret, rule.ID))
	if err != nil {
		return err
	}
	if !ok {
		_, st, err := readBoth(r, rule.ID)
		if err == nil && st.Pause != needsPassword && st.Pause != needsSignIn { // else a repair has told
			err = fault.New(fault.Corrupt, "what signs in for it is missing; give it again with: martlet link passwd")
		}
		return err
	}
	_, err = l.unsealSecret(rule.ID, rule.Account, v)
	return err
}
