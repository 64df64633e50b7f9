package imapsource

import (
	"context"
	"slices"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/test/provider/ledger"
)

// sifter knows some messages.
type sifter struct {
	*ledger.Ledger
	known []string
	asked int
}

func (s *sifter) GoneOf(_ context.Context, gone func(string) bool) error {
	for _, k := range s.known {
		if s.asked++; gone(k) {
			s.Missing = append(s.Missing, k)
		}
	}
	return nil
}

// One message that is gone of many whose UIDs are far apart is told by itself: not all that
// might lie between them, which are thousands of millions.
func TestOneOfFarUIDsIsGone(t *testing.T) {
	for _, gap := range []uint32{1, 2000, 1_400_000} {
		var set mail.UIDSet
		v := &sifter{Ledger: ledger.New()}
		for i := range uint32(3000) {
			set.Add(mail.UID(1 + i*gap))
			v.known = append(v.known, KeyOf(7, mail.UID(1+i*gap)))
		}
		v.known = append(v.known, KeyOf(6, set[0].From), "none")
		known, _, err := mail.ParseBinaryUIDSet(coarse(set))
		must(t, err)
		last := v.known[2999]
		r := &reading{validity: 7, v: v}
		must(t, r.gone(t.Context(), known, below(set, set[len(set)-1].To)))
		if !slices.Equal(v.Missing, []string{last}) || v.asked > 3002 {
			t.Errorf("gap %d: %d are told as gone, %d asked", gap, len(v.Missing), v.asked)
		}
	}
}
