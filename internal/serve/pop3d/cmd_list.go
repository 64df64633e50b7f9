package pop3d

import (
	"context"
	"fmt"

	"github.com/martlet-mail/martlet/internal/store"
)

// stat counts the messages that are not marked, and their size (RFC 1939, 5).
func (s *session) stat(context.Context, []string) error {
	s.ok("%d %d", s.drop.count, s.drop.bytes)
	return nil
}

// list gives sizes (RFC 1939, 5).
func (s *session) list(_ context.Context, args []string) error {
	return s.listing(args, fmt.Sprintf("%d messages (%d octets)", s.drop.count, s.drop.bytes), func(m store.Message) string {
		return fmt.Sprint(m.Size)
	})
}

// uidl gives unique ids (RFC 1939, 7).
func (s *session) uidl(_ context.Context, args []string) error {
	return s.listing(args, "unique ids follow", s.drop.uniqueID)
}

// listing answers for one message, or for all in a line each.
func (s *session) listing(args []string, title string, of func(store.Message) string) error {
	if len(args) == 1 {
		seq, m, err := s.drop.find(args[0])
		if err == nil {
			s.ok("%d %s", seq, of(m))
		}
		return err
	}
	s.ok("%s", title)
	for seq, m := range s.drop.all {
		if _, err := fmt.Fprintf(s.conn.W, "%d %s\r\n", seq, of(m)); err != nil {
			s.over = true // the client is gone
			return nil
		}
	}
	fmt.Fprint(s.conn.W, ".\r\n")
	return nil
}

func (s *session) noop(context.Context, []string) error {
	s.ok("done")
	return nil
}
