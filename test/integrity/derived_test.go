package integrity

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/test/house"
	"github.com/martlet-mail/martlet/test/promise"
)

// derived are the families of an account's shard that follow from the messages and that
// whoever misses them makes anew: notes of searches and briefs of pages.
var derived = []byte{'g', 'z'}

// TestR15DerivedRecordsComeBack deletes every derived family while a client has the mailbox
// open. What the next commands make anew must be what was there, byte for byte, and so must
// be their answers, before and after.
func TestR15DerivedRecordsComeBack(t *testing.T) {
	var raw engine.Engine
	h := house.New(t, house.Options{Engine: func(e engine.Engine) engine.Engine { raw = e; return e }})
	acct := h.Account(t, "ann")
	lmtp := h.Dial(t, "lmtp")
	lmtp.Line()
	lmtp.Ask("LHLO x")
	for i := range 600 {
		lmtp.Ask("MAIL FROM:<a@far.example>")
		lmtp.Ask("RCPT TO:<" + acct.Address.String() + ">")
		lmtp.Ask("DATA")
		lmtp.Send(fmt.Sprintf("Received: from somewhere by elsewhere with a long line of trace that nobody reads, 1 Jan 2026\r\nX-Long: "+strings.Repeat("long ", 200)+"\r\nFrom: a@far.example\r\nSubject: number %d\r\nMessage-ID: <%d@x>\r\n\r\nbody number %d of words\r\n.\r\n", i, i, i*7))
		if reply := lmtp.Reply(); !strings.HasPrefix(reply, "250") {
			t.Fatal(reply)
		}
	}
	c := h.Dial(t, "imap")
	c.Line()
	c.Tagged("a", `LOGIN `+acct.Address.String()+` "`+house.Password+`"`)
	c.Tagged("b", "SELECT INBOX")
	shard := engine.Shard(1<<32 + uint64(acct.ID))
	ask := func() (answers string) {
		for _, command := range []string{
			"UID FETCH 1:* (ENVELOPE)", "UID FETCH 1:* (BODYSTRUCTURE)", "UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])",
			"UID SEARCH BODY 497", "UID SEARCH TEXT words", "UID SORT (SUBJECT) UTF-8 ALL", "UID THREAD REFERENCES UTF-8 ALL",
		} {
			lines, tagged := c.Tagged("t", command)
			answers += strings.Join(lines, "\n") + tagged + "\n"
		}
		return answers
	}
	fresh := ask()
	want := settled(t, raw, shard)
	for _, family := range derived {
		if len(want[family]) == 0 {
			t.Fatalf("nothing of family %c was made", family)
		}
	}
	rounds := 3
	for range rounds {
		err := raw.Update(t.Context(), shard, func(w engine.Writer) error {
			for _, family := range derived {
				if err := w.DeleteRange([]byte{family}, []byte{family + 1}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if again := ask(); again != fresh {
			t.Error("an answer is another without the derived records")
		}
		for family, records := range settled(t, raw, shard) {
			// Of pages that had no brief yet there may be some now; they stay the same, too.
			for key, value := range want[family] {
				if records[key] != value {
					t.Errorf("family %c: a record made anew is not the one that was there", family)
				}
			}
			want[family] = records
		}
	}
	promise.Kept(t, "R15", "families", len(derived), "rounds", rounds, "records", len(want['g'])+len(want['z']), "different", 0)
}

// settled waits until nothing is made in the background any more, and returns the records of
// the derived families.
func settled(t *testing.T, e engine.Engine, shard engine.Shard) map[byte]map[string]string {
	t.Helper()
	var last map[byte]map[string]string
	for same := 0; same < 4; time.Sleep(50 * time.Millisecond) {
		now := map[byte]map[string]string{}
		for _, family := range derived {
			now[family] = map[string]string{}
			err := e.View(context.Background(), shard, func(r engine.Reader) error {
				return r.Scan([]byte{family}, []byte{family + 1}, false, func(k, v []byte) bool {
					now[family][string(k)] = string(v)
					return true
				})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if last != nil && maps.Equal(now['g'], last['g']) && maps.Equal(now['z'], last['z']) {
			same++
		} else {
			same = 0
		}
		last = now
	}
	return last
}
