package link

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
)

// talking is a source whose server takes a minute for each answer.
type talking struct {
	*session
	conn net.Conn
	n    int
}

func (s *talking) Mailboxes(ctx context.Context) ([]move.Mailbox, error) {
	in := bufio.NewReader(s.conn)
	end := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer end()
	for range s.n {
		_, err := io.WriteString(s.conn, "NOOP\n")
		if err == nil {
			_, err = in.ReadString('\n')
		}
		if err != nil {
			return nil, err
		}
	}
	return s.session.Mailboxes(ctx)
}

func (s *talking) Close() error {
	_ = s.conn.Close()
	return s.session.Close()
}

// A source that is asked for many things and answers them is not slow, whatever it is asked for;
// one that sends a byte now and then is.
func TestAnswersAreProgress(t *testing.T) {
	for _, c := range []struct {
		about string
		n     int
		reply string
		felt  bool
		want  string
	}{
		{"answers", 30, "OK\n", true, ""},
		{"drips", 1, ".", true, fault.Say(errStill)},
		{"answers that nobody feels", 30, "OK\n", false, fault.Say(errStill)},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			dial := func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				go func() {
					in := bufio.NewReader(there)
					for {
						if _, err := in.ReadString('\n'); err != nil {
							return
						}
						for range 60 { // a server that drips goes on without being asked
							time.Sleep(time.Minute)
							if _, err := io.WriteString(there, c.reply); err != nil {
								return
							}
							if c.n > 1 {
								break
							}
						}
					}
				}()
				return here, nil
			}
			w.opt.Open = func(ctx context.Context, _ Rule, _ Secret) (move.Source, error) {
				felt := Dial(dial)
				if c.felt {
					felt = Felt(ctx, dial)
				}
				conn, err := felt(ctx, "tcp", "source:1")
				return &talking{w.s.open(), conn, c.n}, err
			}
			stop := w.run(t)
			r := w.add(t, rule())
			time.Sleep(31 * time.Minute)
			if s := w.show(t, r.ID); s.Error != c.want || c.want == "" && s.Last.IsZero() {
				t.Errorf("%s: %+v", c.about, s)
			}
			stop()
			time.Sleep(2 * time.Minute) // the server sees that nobody is there
		})
	}
}
