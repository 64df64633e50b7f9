package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/conf"
)

// On every listener for people, whoever has not logged in is cut off after login_time; other
// servers are not people.
func TestListenersForPeople(t *testing.T) {
	h := &house{cfg: conf.Default(), log: slog.New(slog.DiscardHandler)}
	for name, s := range h.services() {
		want := strings.HasPrefix(name, "imap") || strings.HasPrefix(name, "pop3") || strings.HasPrefix(name, "submission")
		if s.People != want {
			t.Errorf("%s: people %v", name, s.People)
		}
		if s.ClientCertificates != want {
			t.Errorf("%s: certificates of clients %v", name, s.ClientCertificates)
		}
	}
}
