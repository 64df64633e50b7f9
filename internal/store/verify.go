package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// Problem is one thing that Verify found wrong.
type Problem struct {
	Account mail.AccountID
	Mailbox string // "" if it concerns none
	UID     mail.UID
	What    string
}

// Verified counts what Verify has read.
type Verified struct {
	Accounts, Mailboxes, Messages int
	Bodies                        int
	Bytes                         int64 // of messages, copies counted once
	Problems                      int
}

// Verify reads the whole store and checks every checksum, count and
// cross-reference. It may run while the store is in use: each account is checked on
// one snapshot. report is called for each problem, progress (may be nil) after each
// message.
func (s *Store) Verify(ctx context.Context, report func(Problem), progress func(Verified)) (Verified, error) {
	v := verifier{ctx: ctx, store: s, report: report, progress: progress, good: map[mail.BlobRef]int64{}}
	if err := v.registry(); err != nil {
		return v.done, err
	}
	ids, err := v.accounts()
	if err != nil {
		return v.done, err
	}
	for _, id := range ids {
		if err := v.account(s.Account(id)); err != nil {
			return v.done, err
		}
	}
	return v.done, ctx.Err()
}

// accounts returns all accounts there are, and reports those that are not listed: those who
// have data are looked for before the list is read.
func (v *verifier) accounts() ([]mail.AccountID, error) {
	holders, err := v.store.Holders(v.ctx)
	if fault.Is(err, fault.Corrupt) {
		v.problem(0, "it cannot be found out which accounts have data: %s", fault.Say(err))
	} else if err != nil {
		return nil, err
	}
	ids, err := v.store.Accounts(v.ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range holders {
		if _, ok := slices.BinarySearch(ids, id); ok {
			continue
		}
		if holds, err := v.store.Holds(v.ctx, id); err == nil && !holds { // removed meanwhile
			continue
		}
		v.account0 = id
		v.problem(0, "the account has data and is not in the list of accounts")
		ids = append(ids, id)
	}
	slices.Sort(ids)
	v.account0 = 0
	return slices.Compact(ids), nil
}

type verifier struct {
	ctx      context.Context
	store    *Store
	report   func(Problem)
	progress func(Verified)
	done     Verified
	good     map[mail.BlobRef]int64 // bodies that were read whole, and their length

	account0 mail.AccountID
	snap     *Snapshot
	box      Mailbox
	seen     map[mail.MessageID][]place
	usage    Usage
	doomed   map[mail.MailboxID]bool // deleted, not reaped yet: their messages are nobody's

	noteBytes int64 // of annotations of messages
}

func (v *verifier) problem(uid mail.UID, format string, args ...any) {
	v.done.Problems++
	v.report(Problem{Account: v.account0, Mailbox: v.box.Name, UID: uid, What: fmt.Sprintf(format, args...)})
}

// account checks one account. Only a store that cannot be read at all is an error.
func (v *verifier) account(a *Account) error {
	v.account0 = a.id
	v.done.Accounts++
	release, err := v.store.HoldBodies(v.ctx) // a sweep would take those of what the snapshot still has
	if err != nil {
		return err
	}
	defer release()
	err = v.lastRun(func(begin func()) error {
		return a.View(v.ctx, func(s *Snapshot) error {
			begin()
			return v.snapshot(s)
		})
	})
	switch fault.Of(err) {
	case fault.Corrupt:
		v.problem(0, "%s", fault.Say(err))
		return nil
	case fault.NotFound: // removed meanwhile, unless something is left of it
		if err = a.headless(v.ctx); fault.Is(err, fault.Corrupt) {
			v.problem(0, "%s", fault.Say(err))
			err = nil
		}
	}
	return err
}

// lastRun runs a look whose function may run more than once, and begins each time with begin:
// what the last run has counted and found is what counts and is reported.
func (v *verifier) lastRun(look func(begin func()) error) error {
	before, report := v.done, v.report
	var found []Problem
	v.report = func(p Problem) { found = append(found, p) }
	err := look(func() { v.done, found = before, found[:0] })
	v.report = report
	for _, p := range found {
		v.report(p)
	}
	return err
}

// snapshot checks an account as of one moment.
func (v *verifier) snapshot(s *Snapshot) error {
	v.snap, v.box, v.seen, v.usage, v.noteBytes = s, Mailbox{}, map[mail.MessageID][]place{}, Usage{}, 0
	if err := v.findDoomed(); err != nil {
		return err
	}
	boxes, err := s.Mailboxes()
	if err != nil {
		return err
	}
	live, err := v.mailboxes(boxes)
	if err != nil {
		return err
	}
	v.kept(live)
	v.counts(len(boxes))
	v.places()
	if err := v.briefs(live); err != nil {
		return err
	}
	if err := v.metadata(live); err != nil {
		return err
	}
	if err := v.guests(boxes); err != nil {
		return err
	}
	if err := v.ties(); err != nil {
		return err
	}
	return v.records()
}

// mailboxes checks each mailbox, and returns which there are.
func (v *verifier) mailboxes(boxes []Mailbox) (live map[mail.MailboxID]bool, err error) {
	live = map[mail.MailboxID]bool{}
	for _, v.box = range boxes {
		live[v.box.ID] = true
		v.done.Mailboxes++
		v.mailbox()
		if err := v.ctx.Err(); err != nil {
			return nil, err
		}
	}
	v.box = Mailbox{}
	return live, nil
}

// counts holds what the account counts against what its mailboxes hold.
func (v *verifier) counts(boxes int) {
	acct := &v.snap.acct
	if v.usage != acct.usage {
		v.problem(0, "quota counts %d bytes in %d messages, the mailboxes hold %d in %d",
			acct.usage.Bytes, acct.usage.Messages, v.usage.Bytes, v.usage.Messages)
	}
	if boxes != int(acct.mailboxes) {
		v.problem(0, "the account counts %d mailboxes and has %d", acct.mailboxes, boxes)
	}
}

func (v *verifier) findDoomed() error {
	v.doomed = map[mail.MailboxID]bool{}
	return v.snap.r.Scan([]byte{famDoomed}, []byte{famDoomed + 1}, false, func(k, val []byte) bool {
		v.doomed[mail.MailboxID(engine.Num(k, 0))] = true
		if len(val) > 0 && val[0] == recKeptDoomed {
			m, err := decodeKeptDoomed(val)
			if err != nil {
				v.problem(0, "record %x: %s", k, fault.Say(err))
			}
			v.noteBytes += m.noteBytes
		}
		return true
	})
}

// places checks that each message knows where it lies.
func (v *verifier) places() {
	for id, found := range v.seen {
		list, err := v.snap.places(id)
		list = slices.DeleteFunc(list, func(p place) bool { return v.doomed[p.box] })
		if err != nil || len(list) != len(found) {
			v.problem(found[0].uid, "the message is said to be in %d places and is in %d", len(list), len(found))
			continue
		}
		want := map[place]bool{}
		for _, p := range list {
			want[p] = true
		}
		for _, p := range found {
			if !want[p] {
				v.problem(p.uid, "the message does not know that it lies here")
			}
		}
	}
}

// records checks what no mailbox leads to: no message without a place, every record
// whole.
func (v *verifier) records() error {
	for _, family := range []byte{famFacts, famKeys, famBody} {
		err := v.snap.r.Scan([]byte{family}, []byte{family + 1}, false, func(k, _ []byte) bool {
			id := mail.MessageID(engine.Num(k, 0))
			if len(v.seen[id]) == 0 && len(v.doomed) == 0 {
				v.problem(0, "message %d lies in no mailbox", id)
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return v.sums()
}

// sums checks the records that nothing above has read: each is whole and of its kind.
func (v *verifier) sums() error {
	kinds := map[byte][]byte{
		famLog: {recLog, recStampedLog}, famThread: {recThread}, famOnce: {recOnce}, famSub: {recSub}, famPlaces: {recPlaces},
		famURLKey: {recURLKey}, famSharer: {recSharer}, famDoomed: {recDoomed, recKeptDoomed}, famGrams: {recGrams}, famName: {recName},
		famPage: {recPage, recRows}, famMarks: {recMarks}, famBirth: {recBirth},
	}
	for family, allowed := range kinds {
		err := v.snap.r.Scan([]byte{family}, []byte{family + 1}, false, func(k, val []byte) bool {
			kind, _, err := record.Open(val)
			if err == nil && !slices.Contains(allowed, kind) {
				err = fault.Newf(fault.Corrupt, "a stored record has kind %d", kind)
			}
			if err != nil {
				v.problem(0, "record %x: %s", k, fault.Say(err))
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// registry checks the list of accounts. One that cannot be read at all is an error.
func (v *verifier) registry() error {
	return v.lastRun(func(begin func()) error {
		return v.store.eng.View(v.ctx, registryShard, func(r engine.Reader) error {
			begin()
			return r.Scan(nil, nil, false, func(k, val []byte) bool {
				var err error
				switch kind := map[byte]byte{famRegistry: recRegistry, famOpen: recSharer}[k[0]]; k[0] {
				case famKeepTime, famSweeping:
					_, err = decodeReading(val)
				default:
					_, err = unseal(kind, val)
				}
				if err != nil {
					v.problem(0, "record %x of the list of accounts: %s", k, fault.Say(err))
				}
				return true
			})
		})
	})
}
