package doctor

import (
	"context"
	"fmt"
)

// LinkFact is how a link to a mailbox elsewhere stands.
type LinkFact struct {
	ID     uint64
	What   string // whose mail, and where
	Paused bool   // by itself: somebody must act
	Error  string // of the last run; "" if it went well
	Fix    string
}

// links looks for links that bring no mail: one that needs its owner is worse than one that
// is tried again.
func (d *Doctor) links(ctx context.Context) finding {
	if d.Links == nil {
		return skip("nothing is known of links")
	}
	all, err := d.Links(ctx)
	if err != nil {
		return skip("the links cannot be asked: %v", err)
	}
	if len(all) == 0 {
		return skip("there are no links")
	}
	var worst *LinkFact
	bad := 0
	for i := range all {
		l := &all[i]
		if l.Error == "" {
			continue
		}
		if bad++; worst == nil || l.Paused && !worst.Paused {
			worst = l
		}
	}
	if worst == nil {
		return ok("%d links bring mail", len(all))
	}
	why := fmt.Sprintf("%d of %d links bring no mail; link %d (%s): %s", bad, len(all), worst.ID, worst.What, worst.Error)
	if worst.Paused {
		return fail(worst.Fix, "%s", why)
	}
	return warn("martlet link list; "+worst.Fix, "%s", why)
}
