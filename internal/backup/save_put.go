package backup

import (
	"bytes"
	"crypto/sha256"
	"io"
)

// want notes that a body is needed, if it is not there with all that it needs.
func (s *saver) want(body name) {
	if !s.have(object{kindBody, body}) {
		s.wanted[body] = nil
		return
	}
	for _, need := range s.repo.needs[body] {
		if !s.have(object{kindBody, need}) {
			s.wanted[need] = nil
		}
	}
}

// have tells whether an object is there. For a full backup it must have been read.
func (s *saver) have(o object) bool {
	if _, ok := s.repo.index[o]; !ok {
		return false
	}
	if !s.opt.Full || s.sound[o] {
		return true
	}
	if ok := s.repo.sound(o); !ok {
		s.problem(Problem{"", "the " + o.String() + " in the backup is damaged; it is stored again"})
		delete(s.repo.index, o)
		delete(s.repo.more, o)
		return false
	}
	s.sound[o] = true
	return true
}

// putZipped stores a chunk or tree, unless it is there.
func (s *saver) putZipped(kind byte, content []byte) (name, error) {
	o := object{kind, sha256.Sum256(content)}
	if s.have(o) {
		return o.name, nil
	}
	s.zipped = s.repo.enc.EncodeAll(content, s.zipped[:0])
	return o.name, s.put(o, nil, bytes.NewReader(s.zipped))
}

// put stores an object in the present pack.
func (s *saver) put(o object, needs []name, r io.Reader) (err error) {
	if s.pack == nil {
		if s.pack, err = newPackWriter(s.repo.disk, s.repo.disk.join(s.repo.dir, packsDir)); err != nil {
			return err
		}
	}
	p, err := s.pack.put(o, needs, r)
	if err != nil {
		return err
	}
	s.repo.index[o] = spot{pack: uint32(len(s.repo.packs)), off: p.off, size: p.size, sum: sumStart(p.sum)}
	if len(needs) > 0 {
		s.repo.needs[o.name] = needs
	}
	s.sound[o] = true
	s.done.Objects++
	s.done.Bytes += p.size
	if s.pack.at >= packSize {
		return s.flush()
	}
	return nil
}

// flush makes the present pack durable.
func (s *saver) flush() error {
	if s.pack == nil {
		return nil
	}
	base, err := s.pack.finish()
	s.repo.packs = append(s.repo.packs, base)
	s.pack = nil
	return err
}

func (s *saver) abandon() {
	if s.pack != nil {
		s.pack.abandon()
	}
}
