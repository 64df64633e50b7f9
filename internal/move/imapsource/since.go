package imapsource

import (
	"context"
	"encoding/json"
	"slices"
	"sort"
	"strconv"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
)

// state is what a reading hands over for the next one. It has at most 4 KB.
type state struct {
	Validity uint32 `json:"v"`
	ModSeq   uint64 `json:"m,omitempty"` // everything up to it was told
	Next     uint32 `json:"n"`           // UIDs from here on are new
	Count    uint32 `json:"c"`
	Whole    bool   `json:"w,omitempty"` // Count UIDs under Next were listed, and are all that there were
	Known    []byte `json:"k,omitempty"` // UIDs that were there, perhaps with some that were not
}

// maxKnown is how many bytes the UIDs of a state may have, in base64 a third more.
const maxKnown = 2800

func (s state) encode() []byte {
	b, _ := json.Marshal(s)
	return b
}

// decodeState returns nothing for what is none.
func decodeState(b []byte) (s state, known mail.UIDSet) {
	if json.Unmarshal(b, &s) != nil {
		return state{}, nil
	}
	known, _, err := mail.ParseBinaryUIDSet(s.Known)
	if err != nil {
		return state{}, nil
	}
	return s, known
}

// coarse returns a set that has all of set and is no longer than a state may hold: the
// smallest gaps are filled. Who is told that UIDs are gone which never were passes over them.
func coarse(set mail.UIDSet) []byte {
	b := set.AppendBinary(nil)
	for len(b) > maxKnown {
		gaps := make([]mail.UID, 0, len(set))
		for i := 1; i < len(set); i++ {
			gaps = append(gaps, set[i].From-set[i-1].To)
		}
		sort.Slice(gaps, func(i, j int) bool { return gaps[i] < gaps[j] })
		limit := gaps[len(gaps)/2]
		out := mail.UIDSet{set[0]}
		for _, r := range set[1:] {
			if last := &out[len(out)-1]; r.From-last.To <= limit {
				last.To = r.To
			} else {
				out = append(out, r)
			}
		}
		set = out
		b = set.AppendBinary(nil)
	}
	return b
}

// begin opens the mailbox for the first time and finds out which messages are to be told of.
func (r *reading) begin(ctx context.Context, c *imapc.Client) error {
	before, known := decodeState(r.how.Since)
	how := imapc.Select{ReadOnly: true}
	if before.ModSeq > 0 {
		how.Since = &imapc.Resync{UIDValidity: before.Validity, ModSeq: before.ModSeq, Known: known}
	}
	sel, err := c.Select(ctx, r.box.Wire, how)
	if err != nil {
		return err
	}
	r.validity = sel.UIDValidity
	r.fresh = r.how.Since != nil && before.Validity != sel.UIDValidity
	r.after = state{Validity: sel.UIDValidity, ModSeq: sel.ModSeq, Next: sel.UIDNext, Count: sel.Exists}
	since := r.how.Since != nil && !r.fresh
	if since && r.unchanged(&before, sel) {
		r.after = before
		return nil
	}
	present, whole, err := r.present(ctx, c, sel)
	if err != nil {
		return err
	}
	if n := len(present); n > 0 {
		r.after.Next = max(r.after.Next, uint32(present[n-1].To)+1)
	}
	r.after.Known = coarse(present)
	r.after.Whole = whole && present.Len() == int(sel.Exists)
	if !whole {
		r.doubt()
	}
	r.windows = windows{left: slices.Clone(present), newest: r.how.Order == move.NewestFirst, dense: whole}
	if !since {
		return nil
	}
	r.windows.dense = false
	if r.windows.left, err = r.changed(ctx, c, &before, present, sel); err != nil {
		return err
	}
	if !whole { // what is not listed may be there all the same
		return nil
	}
	if old := below(present, mail.UID(before.Next)); before.Whole && old.Len() == int(before.Count) {
		return nil // all that there were
	}
	return r.gone(ctx, known, present)
}

// doubt says that there may be messages which are not told of.
func (r *reading) doubt() {
	if v, ok := r.v.(move.Doubter); ok {
		v.Doubt()
	}
}

// present lists the UIDs that there are, and tells whether these are all. Some servers list
// less than there is: what is missing is asked for in other ways, and is never taken for
// gone.
func (r *reading) present(ctx context.Context, c *imapc.Client, sel *imapc.Selected) (set mail.UIDSet, whole bool, err error) {
	if sel.Exists == 0 {
		return nil, true, nil
	}
	for _, ask := range []func() (mail.UIDSet, error){
		func() (mail.UIDSet, error) { return c.Search(ctx, "ALL") },
		func() (mail.UIDSet, error) { return c.PlainSearch(ctx, "ALL") },
		func() (found mail.UIDSet, err error) {
			var uids []mail.UID
			all := mail.UIDSet{{From: 1, To: 1<<32 - 1}}
			err = c.Fetch(ctx, imapc.Query{UIDs: all}, func(m *imapc.Message) error { uids = append(uids, m.UID); return nil })
			return mail.SetOf(uids...), err
		},
	} {
		found, err := ask()
		if c.Dead() != nil || imapc.ProblemOf(err) == imapc.Throttled {
			return nil, false, err
		}
		if err == nil && found.Len() > set.Len() {
			set = found
		}
		if set.Len() >= int(sel.Exists) {
			return set, true, nil
		}
	}
	if set.IsEmpty() {
		return nil, false, fault.Newf(fault.Unavailable, "%s says that %s has %d messages, and lists none", r.s.opt.IMAP.Host, r.box.Name, sel.Exists)
	}
	return set, false, nil
}

// unchanged tells whether nothing at all has happened: the server counts changes, and none
// is counted.
func (r *reading) unchanged(before *state, sel *imapc.Selected) bool {
	return before.ModSeq > 0 && before.ModSeq == sel.ModSeq && before.Next == sel.UIDNext && before.Count == sel.Exists && len(sel.Changed) == 0 && sel.Vanished.IsEmpty()
}

// changed returns the messages that are new or have other flags since; all where the server
// cannot tell.
func (r *reading) changed(ctx context.Context, c *imapc.Client, before *state, present mail.UIDSet, sel *imapc.Selected) (mail.UIDSet, error) {
	if before.ModSeq == 0 || sel.ModSeq == 0 {
		return present, nil
	}
	var uids []mail.UID
	if sel.Resynced {
		for _, ch := range sel.Changed {
			uids = append(uids, ch.UID)
		}
	} else if old := below(present, mail.UID(before.Next)); !old.IsEmpty() {
		all := mail.UIDSet{{From: 1, To: mail.UID(max(before.Next, 2) - 1)}}
		err := c.Fetch(ctx, imapc.Query{UIDs: all, Flags: true, ChangedSince: before.ModSeq}, func(m *imapc.Message) error {
			uids = append(uids, m.UID)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	set := mail.SetOf(uids...)
	for _, p := range present {
		if p.To >= mail.UID(before.Next) {
			set.AddRange(max(p.From, mail.UID(before.Next)), p.To)
		}
	}
	return set, nil
}

// below returns what of a set is under a UID.
func below(set mail.UIDSet, uid mail.UID) (out mail.UIDSet) {
	for _, r := range set {
		if r.From < uid {
			out.AddRange(r.From, min(r.To, uid-1))
		}
	}
	return out
}

// mostNamed is how many messages are named as gone. Of more the visitor is asked which of them it
// knows: known is coarse, and most of them may never have been.
const mostNamed = 4 * move.MaxItems

// gone tells of the messages that were known and are no more.
func (r *reading) gone(ctx context.Context, known, present mail.UIDSet) error {
	absent := minus(known, present)
	if v, ok := r.v.(move.Sifter); ok && absent.Len() > mostNamed {
		return r.halt(v.GoneOf(ctx, func(key string) bool {
			u := uids(r.validity, []string{key})
			return !u.IsEmpty() && absent.Contains(u[0].From)
		}))
	}
	var keys []string
	prefix := strconv.FormatUint(uint64(r.validity), 10) + "."
	flush := func() error {
		if len(keys) == 0 {
			return nil
		}
		err := r.halt(r.v.Gone(ctx, keys))
		keys = keys[:0]
		return err
	}
	for _, g := range absent {
		for u := g.From; ; u++ {
			if keys = append(keys, prefix+strconv.FormatUint(uint64(u), 10)); len(keys) == 1000 {
				if err := flush(); err != nil {
					return err
				}
			}
			if u == g.To {
				break
			}
		}
	}
	return flush()
}

// minus returns what is in a and not in b, in time linear in their ranges.
func minus(a, b mail.UIDSet) (out mail.UIDSet) {
	i := 0
	for _, r := range a {
		from := uint64(r.From)
		for i > 0 && i < len(b) && b[i].From > r.From {
			i--
		}
		for ; i < len(b) && b[i].From <= r.To; i++ {
			if uint64(b[i].To) < from {
				continue
			}
			if uint64(b[i].From) > from {
				out.AddRange(mail.UID(from), b[i].From-1)
			}
			from = uint64(b[i].To) + 1
			if from > uint64(r.To) {
				break
			}
		}
		if from <= uint64(r.To) {
			out.AddRange(mail.UID(from), r.To)
		}
	}
	return out
}
