package store

import (
	"cmp"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// A message knows where it lies: by its facts as long as that is only where it was
// delivered, by its record of places from then on. Whoever found a message without such
// a record in a mailbox knows that it lies there and nowhere else.

func (s *Snapshot) places(id mail.MessageID) ([]place, error) {
	list, moved, err := s.movedPlaces(id)
	if err != nil || moved {
		return list, err
	}
	f, err := s.Facts(id)
	if err != nil {
		return nil, err
	}
	return []place{f.home}, nil
}

// movedPlaces reads the places record, which is only there once the message has
// left home or been copied.
func (s *Snapshot) movedPlaces(id mail.MessageID) ([]place, bool, error) {
	v, ok, err := s.r.Get(engine.Key(famPlaces, uint64(id)))
	if err != nil || !ok {
		return nil, false, err
	}
	list, err := decodePlaces(v)
	return list, err == nil, err
}

func decodePlaces(b []byte) ([]place, error) {
	p, err := unseal(recPlaces, b)
	if err != nil {
		return nil, err
	}
	d := dec{Rest: p}
	list := make([]place, d.Count())
	for i := range list {
		list[i] = place{mail.MailboxID(d.U()), mail.UID(d.U())}
	}
	return list, d.Err("places")
}

// readPlaces reads ahead where messages lie: of many messages with ids that are close
// together as few scans.
func (tx *Tx) readPlaces(rows []Message) error {
	if tx.lay == nil {
		tx.lay = map[mail.MessageID][]place{}
	}
	ids := make([]mail.MessageID, 0, len(rows))
	for i := range rows {
		if _, known := tx.lay[rows[i].ID]; !known {
			ids = append(ids, rows[i].ID)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	for len(ids) > 0 {
		n := 1
		for n < len(ids) && ids[n]-ids[n-1] <= placesGap {
			n++
		}
		err := tx.run(famPlaces, ids[:n], func(i int, v []byte) (err error) {
			var list []place
			if v != nil {
				list, err = decodePlaces(v)
			}
			tx.lay[ids[i]] = list
			return err
		})
		if err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// movedPlaces is that of Snapshot, for whoever has read ahead.
func (tx *Tx) movedPlaces(id mail.MessageID) ([]place, bool, error) {
	if list, known := tx.lay[id]; known {
		return slices.Clone(list), list != nil, nil
	}
	return tx.Snapshot.movedPlaces(id)
}

// placesFrom returns where a message lies that is in a mailbox.
func (tx *Tx) placesFrom(box mail.MailboxID, m Message) ([]place, error) {
	list, moved, err := tx.movedPlaces(m.ID)
	if err == nil && !moved {
		list = []place{{box, m.UID}}
	}
	return list, err
}

func (tx *Tx) putPlaces(id mail.MessageID, list []place) error {
	slices.SortFunc(list, func(a, b place) int { return cmp.Or(cmp.Compare(a.box, b.box), cmp.Compare(a.uid, b.uid)) })
	var e enc
	e.U(uint64(len(list)))
	for _, p := range list {
		e.U(uint64(p.box))
		e.U(uint64(p.uid))
	}
	if tx.lay != nil {
		tx.lay[id] = list
	}
	return tx.w.Put(engine.Key(famPlaces, uint64(id)), seal(recPlaces, e))
}

func (tx *Tx) deletePlaces(id mail.MessageID) error {
	if tx.lay != nil {
		tx.lay[id] = nil
	}
	return tx.w.Delete(engine.Key(famPlaces, uint64(id)))
}
