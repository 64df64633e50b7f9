package backup

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

// format1 is a repository as the first version of the format has it. It is made once, by
// MARTLET_WRITE_FORMAT=1, and must be readable for ever.
const format1 = "testdata/format1"

// ofFormat1 fills an account as it is in there.
func (w *world) ofFormat1(t testing.TB) {
	rng := rand.New(rand.NewPCG(1, 1))
	w.append(t, "carol", "INBOX", letter(rng, "short", 300), mail.Seen)
	w.append(t, "carol", "INBOX", letter(rng, "long", 9000), mail.Flagged)
	w.append(t, "carol", "Archive", withFile(rng, "file", 12_000), 0)
}

func TestReadsFormat1(t *testing.T) {
	w := populated(t, "carol")
	w.ofFormat1(t)
	want := texts(content(t, w.account(t, "carol")))
	if os.Getenv("MARTLET_WRITE_FORMAT") != "" {
		if _, err := os.Stat(format1); err == nil {
			t.Fatal("it is there, and stays as it is")
		}
		w.save(t, format1, SaveOptions{})
		w.expunge(t, "carol", "INBOX", 1)
		w.save(t, format1, SaveOptions{})
		for _, lock := range []string{writerLock, readerLock} {
			_ = os.Remove(filepath.Join(format1, lock))
		}
	}
	if v := clean(t, format1); v.Snapshots != 2 || v.Objects < 5 {
		t.Errorf("%+v", v)
	}
	list, _, err := List(disk, format1)
	w.must(t, err)
	e := elsewhere(t, format1, list[0].Time)
	e.verify(t)
	sameTexts(t, texts(content(t, e.account(t, "carol"))), want)
	if _, err := e.Directory.Authenticate(ctx, "carol@example.org", "secret of carol", netip.Addr{}); err != nil {
		t.Error(err)
	}
	e = elsewhere(t, format1, time.Time{})
	if got := texts(content(t, e.account(t, "carol"))); len(got) != 2 {
		t.Errorf("the second snapshot has %d messages", len(got))
	}
}
