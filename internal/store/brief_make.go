package store

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// Fields of a header that are long and that no client asks for of many messages.
var traceFields = [...]string{
	"received", "dkim-signature", "arc-seal", "arc-message-signature", "arc-authentication-results",
	"authentication-results", "received-spf", "x-received", "x-google-dkim-signature", "x-gm-message-state",
	"x-google-smtp-source", "domainkey-signature", "x-ms-exchange-antispam-report",
	"x-ms-exchange-antispam-messagedata", "x-microsoft-antispam", "x-microsoft-antispam-message-info",
	"x-forefront-antispam-report", "x-ms-exchange-crosstenant-network-message-id", "x-spam-report",
}

// InBriefHeader tells whether a BriefHeader has the fields of a name, if the message does.
func InBriefHeader(name string) bool {
	return !slices.ContainsFunc(traceFields[:], func(f string) bool { return strings.EqualFold(f, name) })
}

const (
	makePages = 16 // pages that are read, and written, in one go when briefs are made
	makeJobs  = 64 // lists of pages that may wait for it
)

// briefing is the briefs that are to be made, in the background, one list after another.
type briefing struct {
	mu   sync.Mutex
	jobs []briefJob // the first is under way
}

// briefJob is pages of a mailbox, named by the UID of one of their messages.
type briefJob struct {
	account *Account
	box     mail.MailboxID
	kinds   []BriefKind
	uids    []mail.UID
}

func (j *briefJob) same(other briefJob) bool {
	return j.account.id == other.account.id && j.box == other.box && slices.Equal(j.kinds, other.kinds) && slices.Equal(j.uids, other.uids)
}

// MakeBriefs makes briefs of pages of a mailbox, named by the UID of one of their messages,
// in the background: of those pages that are full and have none. It changes nothing that
// anybody can see. If too many wait for it already it does nothing: who misses briefs asks
// again.
func (a *Account) MakeBriefs(box mail.MailboxID, kinds []BriefKind, uids []mail.UID) {
	st := a.store
	job := briefJob{&Account{accountState: a.accountState}, box, kinds, uids}
	st.briefing.mu.Lock()
	defer st.briefing.mu.Unlock()
	waiting := st.briefing.jobs
	if st.life.Err() != nil || len(waiting) == makeJobs || slices.ContainsFunc(waiting, job.same) {
		return
	}
	if st.briefing.jobs = append(waiting, job); len(waiting) == 0 {
		st.background.Go(st.makeAllBriefs)
	}
}

// makeAllBriefs makes briefs until nobody waits for any.
func (st *Store) makeAllBriefs() {
	for {
		st.briefing.mu.Lock()
		job := st.briefing.jobs[0]
		st.briefing.mu.Unlock()
		for uids := range slices.Chunk(job.uids, makePages) {
			if err := job.make(st.life, uids); err != nil {
				if !fault.Is(err, fault.NotFound) && st.life.Err() == nil {
					st.opt.Log.Warn("no briefs are made of a mailbox", "account", job.account.id, "err", err)
				}
				break
			}
		}
		st.briefing.mu.Lock()
		st.briefing.jobs = slices.Delete(st.briefing.jobs, 0, 1)
		last := len(st.briefing.jobs) == 0
		st.briefing.mu.Unlock()
		if last {
			return
		}
	}
}

// briefArrived asks for briefs once a commit has filled pages enough to be read at once.
func (a *Account) briefArrived(tx *Tx) {
	for id, b := range tx.boxes {
		if b.gone || b.log.Arrived.IsEmpty() {
			continue
		}
		from, to := pageOf(b.log.Arrived[0].From)/briefPages*briefPages, pageOf(b.UIDNext)/briefPages*briefPages
		if from == to {
			continue
		}
		var uids []mail.UID
		for n := from; n < to; n++ {
			uids = append(uids, mail.UID(n*pageSize))
		}
		a.MakeBriefs(id, []BriefKind{BriefEnvelope, BriefStructure}, uids)
	}
}

// numbered is a brief on its way into the store.
type numbered struct {
	kind    BriefKind
	number  uint64
	present uint64 // of the page it was made of
	record  []byte
}

func (j *briefJob) make(ctx context.Context, uids []mail.UID) error {
	of, made, err := j.gather(ctx, uids)
	if err != nil || len(made) == 0 {
		return err
	}
	return j.keep(ctx, of, made)
}

// gather makes briefs; of is the mailbox as they are of it.
func (j *briefJob) gather(ctx context.Context, uids []mail.UID) (of *Picture, made []numbered, err error) {
	err = j.account.View(ctx, func(s *Snapshot) error {
		m, err := s.mailbox(j.box)
		if err != nil {
			return err
		}
		of = newPicture(m, nil, nil)
		made = nil
		for _, uid := range uids {
			if pageOf(uid) >= pageOf(m.UIDNext) {
				continue // more may come
			}
			for _, kind := range j.kinds {
				b, err := s.makeBrief(j.box, kind, pageOf(uid))
				if err != nil {
					return err
				}
				if b.record != nil {
					made = append(made, b)
				}
			}
		}
		return nil
	})
	return of, made, err
}

// keep writes briefs, but not those of pages from which a message went meanwhile, and none if the
// mailbox does not go on from where they were made. It is no
// change of the account: nobody who watches it is woken, and no picture is stale.
func (j *briefJob) keep(ctx context.Context, of *Picture, made []numbered) error {
	a := j.account
	return a.store.eng.Update(ctx, a.shard, func(w engine.Writer) error {
		s, err := newSnapshot(a, w)
		if err != nil {
			return err
		}
		now, err := s.mailbox(j.box)
		if err != nil {
			return err
		}
		if follows, err := s.follows(&now, of); err != nil || !follows {
			return err
		}
		for _, m := range made {
			p, err := s.page(j.box, m.number)
			if err != nil {
				return err
			}
			if p == nil || p.present != m.present {
				continue
			}
			if err := w.Put(briefKey(j.box, m.kind, m.number), m.record); err != nil {
				return err
			}
		}
		return nil
	})
}

// makeBrief makes the brief of a page, none if there is one already.
func (s *Snapshot) makeBrief(box mail.MailboxID, kind BriefKind, number uint64) (n numbered, err error) {
	if _, ok, err := s.r.Get(briefKey(box, kind, number)); err != nil || ok {
		return n, err
	}
	p, err := s.page(box, number)
	if err != nil || p == nil {
		return n, err
	}
	b, size := brief{present: p.present}, 0
	err = s.eachOfKind(kind, p.messageIDs(), func(i int, row []byte, ok bool) error {
		if !ok || size > briefMost {
			b.present = 0
			return nil
		}
		size += len(row)
		b.rows[i] = slices.Clone(row)
		return nil
	})
	if size > briefMost {
		b.present = 0
	}
	return numbered{kind, number, p.present, b.encode()}, err
}

// messageIDs returns the ids of the messages on a page, row by row.
func (p *page) messageIDs() []mail.MessageID {
	ids := make([]mail.MessageID, p.len())
	for row := range ids {
		ids[row] = mail.MessageID(p.at(colID, row))
	}
	return ids
}

// eachOfKind reads from the messages what their briefs of a kind are to hold; ok is false
// if there is no telling.
func (s *Snapshot) eachOfKind(kind BriefKind, ids []mail.MessageID, fn func(i int, row []byte, ok bool) error) error {
	if kind != BriefHeader {
		return s.EachFacts(ids, func(i int, f Facts, ok bool) error {
			if kind == BriefStructure {
				return fn(i, f.BodyStructure, ok)
			}
			return fn(i, f.Envelope, ok)
		})
	}
	return s.EachHead(ids, func(i int, head []byte, ok bool) error {
		return fn(i, briefHeader(head), ok && WholeHeader(head))
	})
}

// briefHeader returns the fields of a header that a BriefHeader has.
func briefHeader(head []byte) []byte { return mime.FilterHeader(head, traceFields[:], true) }

// dropBriefs removes the briefs of the pages that lost messages.
func (tx *Tx) dropBriefs(b *txBox) error {
	next := uint64(0) // the pages before it were dealt with
	for _, r := range b.log.Expunged {
		for n := max(pageOf(r.From), next); n <= pageOf(r.To) && n < pageOf(b.UIDNext); n++ {
			if err := tx.dropBrief(b.ID, n); err != nil {
				return err
			}
			next = n + 1
		}
	}
	return nil
}

// dropBrief removes the briefs of a page, if it has any. Looking costs more than that.
func (tx *Tx) dropBrief(box mail.MailboxID, number uint64) error {
	for kind := range BriefKind(briefKinds) {
		if err := tx.w.Delete(briefKey(box, kind+1, number)); err != nil {
			return err
		}
	}
	return nil
}
