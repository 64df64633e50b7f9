package backup

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// bodies stores the bodies that are wanted, and what they need.
func (s *saver) bodies(ctx context.Context) error {
	blobs := s.house.Engine.Blobs()
	parts := map[name][]name{}
	err := blobs.Needs(ctx, func(body name, _ time.Time, needs []name) bool {
		if _, ok := s.wanted[body]; ok {
			s.wanted[body] = slices.Clone(needs)
			for _, n := range needs {
				if !s.have(object{kindBody, n}) {
					parts[n] = nil
				}
			}
		}
		return ctx.Err() == nil
	})
	if err != nil {
		return err
	}
	maps.Copy(parts, s.wanted) // a part needs nothing, so a name in both is that of a body
	done := int64(0)
	for _, body := range slices.SortedFunc(maps.Keys(parts), func(a, b name) int { return bytes.Compare(a[:], b[:]) }) {
		if err := s.body(ctx, blobs, body, parts[body]); err != nil {
			return err
		}
		done++
		s.progress("bodies", done, int64(len(parts)))
	}
	return ctx.Err()
}

func (s *saver) body(ctx context.Context, blobs engine.Blobs, body name, needs []name) error {
	r, err := blobs.Open(ctx, body, 0, -1)
	if err == nil {
		defer r.Close()
		err = s.put(object{kindBody, body}, needs, r)
	}
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) {
		s.lose(body, err)
		return nil
	}
	return err
}

// lose notes a body that the store itself does not have any more: the rest is saved.
func (s *saver) lose(body name, cause error) {
	s.snap.end.Lost = append(s.snap.end.Lost, body.String())
	s.problem(Problem{"", "the store does not have the body " + body.String() + " that a message names: " + fault.Say(cause)})
}
