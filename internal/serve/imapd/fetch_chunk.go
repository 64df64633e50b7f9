package imapd

import (
	"errors"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// loaded is what was read of one message.
type loaded struct {
	m     store.Message
	seen  bool // \Seen was set by this very command
	facts store.Facts
	head  []byte
	body  []byte // all that is behind head, if the message is short
	root  *mime.Part
	gone  bool // there is nothing of it any more

	preview string
}

// fetchChunk answers for some messages. What needs no body is encoded inside one
// Snapshot, into memory; the rest is loaded there and written after it.
func (s *session) fetchChunk(cmd *command, plan *fetchPlan, chunk []store.Message) (lost bool, err error) {
	seen := func(m store.Message) bool { return cmd.own != nil && cmd.own.set.Contains(m.UID) }
	if err := s.readBeside(plan, chunk); err != nil {
		return false, err
	}
	switch {
	case !plan.facts: // labels and annotations
		return false, s.fetchBeside(plan, chunk, seen)
	case plan.heavy:
		return s.fetchBodies(plan, chunk, seen)
	}
	for len(chunk) > 0 {
		heavy, done, err := s.fetchSome(plan, chunk, seen, &lost)
		if err != nil {
			return lost, err
		}
		chunk = chunk[done:]
		if err := s.flushFull(); err != nil {
			return lost, err
		}
		if heavy == nil {
			continue
		}
		err = s.fetchOne(plan, heavy)
		if fault.Is(err, fault.NotFound) && !isFatal(err) {
			lost = true
		} else if err != nil {
			return lost, err
		}
	}
	return lost, nil
}

// readBeside reads what lies beside messages and is asked for: their labels and annotations.
func (s *session) readBeside(plan *fetchPlan, chunk []store.Message) error {
	if plan.labels != nil {
		if err := s.readLabels(plan.labels, chunk); err != nil {
			return err
		}
	}
	if plan.notes != nil {
		return s.readNotes(plan.notes, chunk)
	}
	return nil
}

// fetchBeside answers for messages of which nothing else is to be read.
func (s *session) fetchBeside(plan *fetchPlan, chunk []store.Message, seen func(store.Message) bool) error {
	for _, m := range chunk {
		if err := s.fetchOne(plan, &loaded{m: m, seen: seen(m)}); err != nil {
			return err
		}
	}
	return nil
}

// fetchSome answers for the first messages of a chunk inside one Snapshot, and returns how many
// it has dealt with: by briefs if these have all that is asked for, else by the headers of
// many at once, else one after the other.
func (s *session) fetchSome(plan *fetchPlan, chunk []store.Message, seen func(store.Message) bool, lost *bool) (heavy *loaded, done int, err error) {
	start := s.enc.Len()
	err = s.view.acct.View(s.ctx, func(snap *store.Snapshot) (err error) {
		s.enc.Truncate(start)
		part := chunk
		if plan.briefs.use() {
			if part, done, err = s.readBriefs(snap, plan, chunk); err != nil || done > 0 {
				return err
			}
		}
		if plan.briefs.useHeads() {
			if done, err = s.readHeads(snap, plan, part, lost); err != nil || done > 0 {
				return err
			}
			part = part[:1]
		}
		heavy, done, err = s.loadChunk(snap, plan, part, seen, lost)
		return err
	})
	if err != nil {
		s.enc.Truncate(start)
	}
	return heavy, done, err
}

// errEnough ends the reading of a chunk early.
var errEnough = errors.New("enough for one chunk")

// loadChunk reads messages of a chunk until there is enough to write, and returns
// how many it has dealt with. One whose header is too long to be read here comes back
// loaded.
func (s *session) loadChunk(snap *store.Snapshot, plan *fetchPlan, chunk []store.Message, seen func(store.Message) bool, lost *bool) (heavy *loaded, done int, err error) {
	ids := make([]mail.MessageID, len(chunk))
	for i := range chunk {
		ids[i] = chunk[i].ID
	}
	var heads heads
	if plan.head {
		if err := heads.read(snap, ids); err != nil {
			return nil, 0, err
		}
		ids = ids[:len(heads.ends)]
	}
	ld := &loaded{} // for one after the other
	err = snap.EachFacts(ids, func(i int, f store.Facts, ok bool) error {
		done = i + 1
		if !ok {
			*lost = true
			return nil
		}
		*ld = loaded{m: chunk[i], seen: seen(chunk[i]), facts: f, head: heads.of(i)}
		if err := ld.readKeys(plan, &f); err != nil {
			return err
		}
		if !plan.head || f.HeaderSize <= int64(len(ld.head)) {
			if err := s.fetchOne(plan, ld); err != nil {
				return err
			}
			if s.enc.Len() > chunkBytes {
				return errEnough
			}
			return nil
		}
		ld.facts.Envelope, ld.facts.BodyStructure = slices.Clone(f.Envelope), slices.Clone(f.BodyStructure)
		heavy = ld
		return errEnough // a message out of turn ends the chunk
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return heavy, done, err
}

// heads is the top headers of some messages, or their bodies.
type heads struct {
	all  []byte
	ends []int // where each ends in all
	gone []int // which were not there
}

// of returns the i-th header, nil if none were read.
func (h *heads) of(i int) []byte {
	if i >= len(h.ends) {
		return nil
	}
	if i == 0 {
		return h.all[:h.ends[0]]
	}
	return h.all[h.ends[i-1]:h.ends[i]]
}
