package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// rebuild makes the records anew that lead to others: of the account and its mailboxes,
// pages and marks. It tells whether there is an account.
func (r *mender) rebuild() (there bool, err error) {
	err = r.a.store.eng.Update(r.ctx, r.a.shard, func(w engine.Writer) error {
		r.found = r.found[:0]
		s := &survey{now: r.a.store.opt.Now().Unix(), boxes: map[mail.MailboxID]Mailbox{}, broken: map[mail.MailboxID]bool{}, names: map[mail.MailboxID]string{},
			doomed: map[mail.MailboxID]bool{}, mail: map[mail.MailboxID]*boxSurvey{}, lost: map[mail.MailboxID]bool{}}
		any, err := s.read(w)
		if there = any; err != nil || !any {
			return err
		}
		if err := cmp.Or(r.rebuildBoxes(w, s), r.rebuildAccount(w, s), r.rebuildLost(w, s), r.rebuildPages(w, s)); err != nil {
			return err
		}
		r.lost = 0
		r.flush() // see told
		return nil
	})
	return there, err
}

// gone notes something that nothing else says.
func (r *mender) gone(box string, format string, args ...any) {
	r.found = append(r.found, Mended{Problem: Problem{Account: r.a.id, Mailbox: box, What: fmt.Sprintf(format, args...)}, Gone: true})
}

// rebuildBoxes makes records of mailboxes that have messages or a name and no record.
func (r *mender) rebuildBoxes(w engine.Writer, s *survey) error {
	for _, key := range s.undoom {
		r.gone("", "the record of deleted mailbox %d was damaged; if it has messages still, it is back", keyNum(key, 0))
		if err := w.Delete(key); err != nil {
			return err
		}
	}
	lost := maps.Clone(s.broken)
	maps.DeleteFunc(lost, func(_ mail.MailboxID, broken bool) bool { return !broken })
	for id := range s.names {
		lost[id] = true
	}
	for id := range s.mail {
		lost[id] = true
	}
	if s.account && s.acct.kept != 0 {
		lost[s.acct.kept] = true
	}
	taken := map[string]bool{}
	for _, m := range s.boxes {
		taken[m.Name] = true
		s.acct.validity = max(s.acct.validity, m.UIDValidity)
	}
	validity := max(s.acct.validity, validityAt(r.a.store.opt.Now()))
	for _, id := range slices.Sorted(maps.Keys(lost)) {
		if _, ok := s.boxes[id]; ok || s.doomed[id] {
			continue
		}
		validity++
		if err := r.rebuildBox(w, s, id, validity, taken); err != nil {
			return err
		}
	}
	s.acct.validity = validity
	for _, m := range s.boxes {
		if m.Name == "INBOX" {
			return nil
		}
	}
	s.mailbox++
	s.acct.validity++
	s.names[s.mailbox] = "INBOX"
	return r.rebuildBox(w, s, s.mailbox, s.acct.validity, taken)
}

// rebuildBox makes the record of one mailbox. What it was counted to have is counted later.
func (r *mender) rebuildBox(w engine.Writer, s *survey, id mail.MailboxID, validity uint32, taken map[string]bool) error {
	name := s.names[id]
	if name == "" && s.account && s.acct.kept == id {
		name = keptName
	}
	if name == "" || taken[name] {
		name = fmt.Sprintf("Recovered %d", id)
	}
	taken[name] = true
	seen := s.of(id)
	m := Mailbox{ID: id, Name: name, UIDValidity: validity, HighestModSeq: s.highest, Created: s.highest, LogFloor: s.highest,
		UIDNext: seen.top + 1 + min(departUIDs, (1<<32-2-seen.top)/2)}
	for _, d := range DefaultMailboxes {
		if d.Name == name {
			m.Role = d.Role
		}
	}
	for i := range min(seen.keyword, MaxKeywords) {
		m.Keywords = append(m.Keywords, fmt.Sprintf("recovered-%d", i+1))
	}
	s.boxes[id] = m
	r.gone(name, "the record of the mailbox is lost, and made anew: it has another UIDVALIDITY, and nobody else has rights in it any more")
	var e enc
	e.U(uint64(id))
	return cmp.Or(w.Put(engine.Key(famMailbox, uint64(id)), m.encode()), w.Put(engine.KeyString(famName, name), seal(recName, e)))
}

// rebuildAccount makes the account's record anew if it is lost, and raises what it says
// was given out to what there is.
func (r *mender) rebuildAccount(w engine.Writer, s *survey) error {
	a := &s.acct
	if !s.account {
		r.gone("", "the account's record is lost, and made anew: it has no quota; set it: martlet account quota")
		*a = accountRecord{validity: a.validity, modSeq: leapFrom(s.highest, r.a.store.opt.Now()) + departModSeq, nextMailbox: uint64(s.mailbox) + departMailboxes, nextMessage: uint64(s.message) + departMessages}
		a.kept = s.keptBox()
	}
	a.modSeq = max(a.modSeq, s.highest)
	a.nextMailbox = max(a.nextMailbox, uint64(s.mailbox)+1)
	a.nextMessage = max(a.nextMessage, uint64(s.message)+1)
	a.mailboxes = uint32(len(s.boxes))
	if a.kept == 0 && len(s.kept) > 0 {
		if err := w.DeleteRange([]byte{famOrigin}, []byte{famOrigin + 1}); err != nil {
			return err
		}
	}
	r.keptName, r.counted = s.boxes[a.kept].Name, s.counted()
	return w.Put([]byte{famAccount}, a.encode())
}

// rebuildLost says of deleted mailboxes of which messages are kept, and nothing is known
// any more, what can be said.
func (r *mender) rebuildLost(w engine.Writer, s *survey) error {
	need := map[mail.MailboxID]bool{}
	for _, key := range s.relost {
		need[mail.MailboxID(keyNum(key, 0))] = true
	}
	for _, at := range s.origins {
		if _, live := s.boxes[at.box]; !live && !s.lost[at.box] {
			need[at.box] = true
		}
	}
	for id := range need {
		r.gone("", "what is known of deleted mailbox %d is lost; messages that come back from it go to a new one", id)
		l := lostMailbox{name: fmt.Sprintf("Recovered %d", id), at: s.now}
		if err := w.Put(lostKey(id), l.encode()); err != nil {
			return err
		}
	}
	return nil
}
