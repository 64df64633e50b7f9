package store

import (
	"bytes"
	"math/bits"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// notes drops annotations of messages that are damaged or of no message, and counts.
func (s *side) notes() error {
	doomed := map[mail.MailboxID]bool{}
	err := s.tx.r.Scan([]byte{famDoomed}, []byte{famDoomed + 1}, false, func(k, v []byte) bool {
		if m, err := decodeKeptDoomed(v); err == nil {
			doomed[m.ID] = true
			s.bytes += m.noteBytes
		}
		return true
	})
	if err != nil {
		return err
	}
	count := map[mail.MailboxID]uint32{}
	size := map[mail.MailboxID]int64{}
	var drop [][]byte
	err = s.tx.r.Scan([]byte{famNote}, []byte{famNote + 1}, false, func(k, v []byte) bool {
		box := mail.MailboxID(keyNum(k, 0))
		if doomed[box] {
			return true
		}
		n, _, err := decodeNote(k, v)
		b := s.live[box]
		if err != nil || b == nil || !s.has(place{box, n.UID}) {
			if drop = append(drop, bytes.Clone(k)); err != nil && b != nil {
				s.gone(b.Name, "an annotation of UID %d was damaged", keyNum(k, 1))
			}
			return true
		}
		count[box]++
		size[box] += n.size()
		s.bytes += n.size()
		return true
	})
	if err != nil {
		return err
	}
	for id, b := range s.live {
		if b.notes != count[id] || b.noteBytes != size[id] {
			if b.notes > count[id] && len(drop) == 0 {
				s.gone(b.Name, "annotations of messages are lost")
			}
			b.notes, b.noteBytes = count[id], size[id]
			s.tx.touch(b)
		}
	}
	return s.drop(drop)
}

type guestOf struct {
	box   mail.MailboxID
	guest mail.AccountID
}

// seen counts anew what guests have seen.
func (s *side) seen() error {
	count := map[guestOf]uint32{}
	var drop [][]byte
	put := map[string][]byte{}
	err := s.tx.r.Scan([]byte{famSeen}, []byte{famSeen + 1}, false, func(k, v []byte) bool {
		of := guestOf{mail.MailboxID(keyNum(k, 0)), mail.AccountID(keyNum(k, 2))}
		c, err := decodeSeen(v)
		b := s.live[of.box]
		if err != nil || b == nil {
			if drop = append(drop, bytes.Clone(k)); b != nil {
				s.gone(b.Name, "what account %d has seen is lost in part", of.guest)
			}
			return true
		}
		if s.trim(c, of.box, keyNum(k, 1)) {
			put[string(k)] = c.encode()
		}
		if n := c.count(); n > 0 {
			count[of] += uint32(n)
		} else {
			delete(put, string(k))
			drop = append(drop, bytes.Clone(k))
		}
		return true
	})
	if err != nil {
		return err
	}
	for k, v := range put {
		if err := s.tx.w.Put([]byte(k), v); err != nil {
			return err
		}
	}
	if err := s.drop(drop); err != nil {
		return err
	}
	return s.guests(count)
}

// trim takes out of a chunk what is not there.
func (s *side) trim(c *seenChunk, box mail.MailboxID, chunk uint64) (changed bool) {
	for i, w := range c {
		if w == 0 {
			continue
		}
		p, err := s.tx.Snapshot.page(box, chunk*chunkPages+uint64(i))
		var there uint64
		if err == nil && p != nil {
			there = p.present
		}
		changed = changed || bits.OnesCount64(w&^there) > 0
		c[i] = w & there
	}
	return changed
}

func (s *side) guests(count map[guestOf]uint32) error {
	had := map[guestOf]bool{}
	var drop [][]byte
	err := s.tx.r.Scan([]byte{famGuest}, []byte{famGuest + 1}, false, func(k, _ []byte) bool {
		of := guestOf{mail.MailboxID(keyNum(k, 0)), mail.AccountID(keyNum(k, 1))}
		if had[of] = true; count[of] == 0 {
			drop = append(drop, bytes.Clone(k))
		}
		return true
	})
	if err != nil {
		return err
	}
	guests := map[mail.MailboxID]uint32{}
	for of, n := range count {
		guests[of.box]++
		var e enc
		e.U(uint64(n))
		if err := s.tx.w.Put(guestKey(of.box, of.guest), seal(recGuest, e)); err != nil {
			return err
		}
	}
	for id, b := range s.live {
		if b.guests != guests[id] {
			if b.guests > guests[id] {
				s.gone(b.Name, "what some guests have seen is lost")
			}
			b.guests = guests[id]
			s.tx.touch(b)
		}
	}
	return s.drop(drop)
}

// entries drops damaged annotations, and counts the others.
func (s *side) entries() error {
	var drop [][]byte
	err := s.tx.r.Scan(engine.Key(famMeta, 0), []byte{famMeta + 1}, false, func(k, v []byte) bool {
		if len(k) < 17 {
			drop = append(drop, bytes.Clone(k))
			return true
		}
		e, err := decodeEntry(k, v)
		box := mail.MailboxID(keyNum(k, 0))
		if err != nil || box != 0 && s.live[box] == nil {
			drop = append(drop, bytes.Clone(k))
			s.gone("", "annotation %s was damaged", k[17:])
			return true
		}
		if !e.gone {
			s.bytes += e.size()
		}
		return true
	})
	if err != nil {
		return err
	}
	if err := s.drop(drop); err != nil {
		return err
	}
	if was, err := s.tx.metadataSize(); err == nil && was == s.bytes {
		return nil
	} else if err == nil && was > s.bytes && len(drop) == 0 {
		s.gone("", "%d bytes of annotations are lost", was-s.bytes)
	}
	var e enc
	e.I(s.bytes)
	return s.tx.w.Put([]byte{famMeta}, seal(recMetaSize, e))
}
