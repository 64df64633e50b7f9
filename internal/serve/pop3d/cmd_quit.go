package pop3d

import (
	"context"

	"github.com/martlet-mail/martlet/internal/fault"
)

// dele marks a message; QUIT removes it (RFC 1939, 5).
func (s *session) dele(_ context.Context, args []string) error {
	seq, m, err := s.drop.find(args[0])
	if err != nil {
		return err
	}
	s.drop.mark(seq, m)
	s.ok("message %d is marked", seq)
	return nil
}

// rset takes all marks away (RFC 1939, 5).
func (s *session) rset(context.Context, []string) error {
	s.drop.reset()
	s.ok("%d messages (%d octets)", s.drop.count, s.drop.bytes)
	return nil
}

// quit removes what is marked, for good, and says so when it is durable (RFC 1939,
// 6). A session that ends in any other way removes nothing.
func (s *session) quit(ctx context.Context, _ []string) error {
	s.over = true
	if s.drop == nil {
		s.ok("bye")
		return nil
	}
	marked := s.drop.markedUIDs()
	if !marked.IsEmpty() {
		removed, err := s.drop.account.Expunge(ctx, s.drop.picture.Mailbox().ID, marked, false)
		if err != nil {
			return fault.Wrap(failure(err), "some deleted messages were not removed", err)
		}
		s.conn.Log().Info("removed", "messages", removed.Len())
	}
	s.unlock()
	s.ok("bye")
	return nil
}

// failure keeps an error of ours from looking like a mistake of the client.
func failure(err error) fault.Kind {
	if kind := fault.Of(err); kind.Temporary() && kind != fault.Busy {
		return kind
	}
	return fault.Unavailable
}
