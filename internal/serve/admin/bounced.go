package admin

import (
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
)

// bouncedLine is an address that an account's mail came back from for good.
type bouncedLine struct {
	Login   string    `json:"login"`
	Address string    `json:"address"`
	At      time.Time `json:"at"`
	Code    int       `json:"code"`
	Said    string    `json:"said"`
}

func (a *api) listBounced(r *request) error {
	var sendErr error
	err := a.Queue.ListBounced(r.ctx, r.URL.Query().Get("login"), func(b queue.Bounced) bool {
		sendErr = r.send(bouncedLine{b.Login, b.Address, b.At.UTC(), b.Code, b.Said})
		return sendErr == nil
	})
	if err != nil {
		return err
	}
	return sendErr
}

func (a *api) forgive(r *request) error {
	login := r.URL.Query().Get("login")
	to, err := mail.ParseAddress(r.URL.Query().Get("address"))
	if err != nil {
		return fault.New(fault.Invalid, err.Error())
	}
	if err := a.Queue.Forgive(r.ctx, login, to); err != nil {
		return err
	}
	return r.send(map[string]any{"login": login, "address": to.String()})
}
