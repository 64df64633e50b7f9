package admin

import (
	"context"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// twoGroups are groups of which each call is remembered.
type twoGroups struct {
	said  []string
	wrong error
}

func (g *twoGroups) say(what string) error {
	g.said = append(g.said, what)
	return g.wrong
}

func (g *twoGroups) Groups(context.Context) ([]Group, error) {
	return []Group{{Name: "home", Accounts: 2}, {Number: 1, Name: "second", URL: "host=db2", Full: true}}, g.wrong
}

func (g *twoGroups) AddGroup(_ context.Context, name, url string) (Group, error) {
	return Group{Number: 2, Name: name}, g.say("add " + name + " " + url)
}

func (g *twoGroups) SetFull(_ context.Context, name string, full bool) error {
	if full {
		return g.say("full " + name)
	}
	return g.say("open " + name)
}

func (g *twoGroups) Move(_ context.Context, id mail.AccountID, group string, tell func(GroupMove)) error {
	tell(GroupMove{ID: id, From: "home", To: group, Step: "copy", Keys: 1, KeysTotal: 2})
	tell(GroupMove{ID: id, From: "home", To: group, Step: "clean", Keys: 2, KeysTotal: 2, FrozenMS: 1.5})
	return g.say("move " + group)
}

func (g *twoGroups) PlanMove(_ context.Context, id mail.AccountID, group string) (GroupMove, error) {
	return GroupMove{ID: id, From: "home", To: group, Step: "plan"}, g.say("plan " + group)
}

func (g *twoGroups) AbortMove(context.Context, mail.AccountID) error { return g.say("abort") }

func (g *twoGroups) Moves(context.Context) ([]GroupMove, error) {
	return []GroupMove{{ID: 1, From: "home", To: "second", Step: "copy"}, {ID: 99, Step: "undo"}}, g.wrong
}

func TestGroupCalls(t *testing.T) {
	w := newWorld(t)
	w.populate(t)
	for _, call := range []string{"GET /v1/groups", "GET /v1/moves", `POST /v1/accounts/carol@example.org/group/move {"to":"second"}`} {
		if status, body := w.call(t, call); !strings.Contains(body, `"kind":"unsupported"`) || !strings.Contains(body, "one machine") {
			t.Errorf("%s without groups: %d %s", call, status, body)
		}
	}
	g := &twoGroups{}
	o := w.options
	o.Groups = g
	w.Handler = New(o)
	for _, c := range []struct {
		call   string
		status int
		answer string // part of it
		said   string
	}{
		{"GET /v1/groups", 200, `{"number":1,"name":"second","url":"host=db2","full":true,"accounts":0,"bytes":0}`, ""},
		{`POST /v1/groups {"name":"third","url":"host=db3"}`, 200, `"number":2,"name":"third"`, "add third host=db3"},
		{`POST /v1/groups {"nmae":"third"}`, 400, "unknown field", ""},
		{`PUT /v1/groups/home {"full":true}`, 200, `{"name":"home","full":true}`, "full home"},
		{`PUT /v1/groups/home {"full":false}`, 200, `{"name":"home","full":false}`, "open home"},
		{`PUT /v1/groups/home {}`, 400, "full is missing", ""},
		{"GET /v1/moves", 200, `"address":"carol@example.org","from":"home","to":"second","step":"copy"`, ""},
		{`POST /v1/accounts/carol@example.org/group/plan {"to":"second"}`, 200, `"step":"plan"`, "plan second"},
		{`POST /v1/accounts/carol@example.org/group/abort {}`, 200, `"step":"done"`, "abort"},
		{`POST /v1/accounts/carol@example.org/group/move {"to":"second"}`, 200, `"address":"carol@example.org","from":"home","to":"second","step":"done","keys":2,"keys_total":2,"bytes":0,"bytes_total":0,"journal":0,"compared":0,"frozen_ms":1.5}`, "move second"},
		{`POST /v1/accounts/carol@example.org/group/explode {"to":"second"}`, 404, "explode", ""},
		{`POST /v1/accounts/nobody@example.org/group/move {"to":"second"}`, 404, `"kind":"not found"`, ""},
	} {
		g.said = nil
		status, body := w.call(t, c.call)
		if status != c.status || !strings.Contains(body, c.answer) || strings.Join(g.said, ";") != c.said {
			t.Errorf("%s: %d %s, and did %q", c.call, status, body, g.said)
		}
	}
	g.wrong = fault.New(fault.Busy, "another node is moving the account now")
	if _, body := w.call(t, `POST /v1/accounts/carol@example.org/group/move {"to":"second"}`); !strings.Contains(body, `"kind":"busy"`) || strings.Contains(body, `"step":"done"`) {
		t.Errorf("a move that fails in the middle: %s", body)
	}
}
