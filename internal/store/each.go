package store

import (
	"github.com/klauspost/compress/zstd"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// gap is how many ids may lie between two messages for one scan to read both: so
// many records are passed over faster than a new seek takes.
const gap = 16

// EachFacts reads the facts of many messages. ids in rising order are read as few
// scans, which is several times faster than Facts for each. fn is called for each id
// in the order given, with its place in ids; ok is false if no mailbox holds the
// message any more. fn returning an error ends it.
func (s *Snapshot) EachFacts(ids []mail.MessageID, fn func(i int, f Facts, ok bool) error) error {
	return s.each(famFacts, ids, func(i int, v []byte) error {
		if v == nil {
			return fn(i, Facts{}, false)
		}
		f, err := decodeFacts(v)
		if err != nil {
			return err
		}
		return fn(i, f, true)
	})
}

// EachHead reads the first bytes (see Head) of many messages, as EachFacts does.
// head is valid during the call only.
func (s *Snapshot) EachHead(ids []mail.MessageID, fn func(i int, head []byte, ok bool) error) error {
	return s.eachPacked(famHeader, recHeader, s.account.store.pack.unheader, ids, fn)
}

// EachBody reads the small bodies of many messages, as EachFacts does; ok is false for a
// body that is not small and for none. body is valid during the call only.
func (s *Snapshot) EachBody(ids []mail.MessageID, fn func(i int, body []byte, ok bool) error) error {
	return s.eachPacked(famBody, recBody, s.account.store.pack.unbody, ids, fn)
}

// eachPacked reads records that hold packed bytes.
func (s *Snapshot) eachPacked(family, kind byte, by *zstd.Decoder, ids []mail.MessageID, fn func(i int, b []byte, ok bool) error) error {
	var buf []byte
	return s.each(family, ids, func(i int, v []byte) error {
		if v == nil {
			return fn(i, nil, false)
		}
		p, err := unseal(kind, v)
		if err != nil {
			return err
		}
		if len(p) > 0 && p[0] == packedRaw {
			return fn(i, p[1:], true)
		}
		if buf, err = unpack(by, buf[:0], p); err != nil {
			return err
		}
		return fn(i, buf, true)
	})
}

// each reads records of one family by id, run by run.
func (s *Snapshot) each(family byte, ids []mail.MessageID, fn func(i int, record []byte) error) error {
	for start := 0; start < len(ids); {
		end := start + 1
		for end < len(ids) && ids[end] > ids[end-1] && ids[end]-ids[end-1] <= gap {
			end++
		}
		if err := s.run(family, ids[start:end], func(i int, v []byte) error { return fn(start+i, v) }); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// run reads records whose ids lie close together, in rising order.
func (s *Snapshot) run(family byte, ids []mail.MessageID, fn func(i int, record []byte) error) error {
	if len(ids) == 1 {
		v, ok, err := s.getLong(family, uint64(ids[0]))
		if err != nil {
			return err
		}
		if !ok {
			v = nil
		}
		return fn(0, v)
	}
	next := 0
	var bad error
	from, to := engine.Key(family, uint64(ids[0])), engine.Key(family, uint64(ids[len(ids)-1])+1)
	err := s.r.Scan(from, to, false, func(k, v []byte) bool {
		id := mail.MessageID(engine.Num(k, 0))
		for next < len(ids) && ids[next] < id && bad == nil { // missing
			bad = fn(next, nil)
			next++
		}
		if bad != nil || next == len(ids) || ids[next] != id {
			return bad == nil
		}
		if len(v) > 0 && v[0] == recLong {
			var ok bool
			if v, ok, bad = s.getLong(family, uint64(id)); bad == nil && !ok {
				bad = fault.New(fault.Corrupt, "a stored record is in pieces that are not there")
			}
		}
		if bad == nil {
			bad = fn(next, v)
			next++
		}
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	for ; err == nil && next < len(ids); next++ {
		err = fn(next, nil)
	}
	return err
}
