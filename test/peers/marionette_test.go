package peers

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// marionette drives a program of the Mozilla family as its own test suites do: a
// connection with messages in JSON, each behind its length, `[0, id, command,
// parameters]` answered by `[1, id, error, result]`. The commands are those of
// WebDriver. Here they act on the program's own windows, not on web pages.
type marionette struct {
	t       *testing.T
	conn    net.Conn
	r       *bufio.Reader
	id      int
	prelude string // functions for all scripts
}

// jsLimit is how long a script may take, and the wait of the prelude's `until`.
const jsLimit = 90 * time.Second

func dialMarionette(t *testing.T, port string) *marionette {
	t.Helper()
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	m := &marionette{t: t, conn: c, r: bufio.NewReader(c)}
	m.message() // who it is
	m.do("WebDriver:NewSession", obj{"capabilities": obj{}})
	m.do("Marionette:SetContext", obj{"value": "chrome"})
	m.do("WebDriver:SetTimeouts", obj{"script": jsLimit.Milliseconds()})
	return m
}

type obj = map[string]any

// message reads one message.
func (m *marionette) message() []byte {
	m.t.Helper()
	m.conn.SetDeadline(time.Now().Add(jsLimit + 30*time.Second))
	s, err := m.r.ReadString(':')
	if err != nil {
		m.t.Fatalf("Marionette: %v", err)
	}
	n, _ := strconv.Atoi(strings.TrimSuffix(s, ":"))
	b := make([]byte, n)
	if _, err := io.ReadFull(m.r, b); err != nil {
		m.t.Fatalf("Marionette: %v", err)
	}
	return b
}

// do runs a command that must succeed and returns its result.
func (m *marionette) do(command string, params obj) json.RawMessage {
	m.t.Helper()
	r, err := m.try(command, params)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

func (m *marionette) try(command string, params obj) (json.RawMessage, error) {
	m.t.Helper()
	m.id++
	if params == nil {
		params = obj{}
	}
	b, err := json.Marshal([]any{0, m.id, command, params})
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(b), b); err != nil {
		m.t.Fatalf("Marionette: %v", err)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(m.message(), &parts); err != nil || len(parts) != 4 {
		m.t.Fatalf("Marionette answers %s with %s: %v", command, parts, err)
	}
	if string(parts[2]) != "null" {
		return nil, fmt.Errorf("%s: %.1000s", command, parts[2])
	}
	return parts[3], nil
}

// js runs the body of an async function, which finds args in `args`, and puts what
// it returns into out, if that is not nil.
func (m *marionette) js(out any, body string, args ...any) {
	m.t.Helper()
	script := "const [args, done] = arguments; " + m.prelude + "(async () => {" + body + "\n})()" +
		".then(v => done({value: v === undefined ? null : v}), e => done({error: e + ' ' + e.stack}))"
	if args == nil {
		args = []any{}
	}
	raw := m.do("WebDriver:ExecuteAsyncScript", obj{"script": script, "args": []any{args}, "sandbox": "system"})
	var r struct {
		Value struct {
			Value json.RawMessage
			Error string
		}
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		m.t.Fatalf("%s: %v", raw, err)
	}
	if r.Value.Error != "" {
		m.t.Fatalf("script: %s\n%s", r.Value.Error, strings.TrimSpace(body))
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(r.Value.Value, out); err != nil {
		m.t.Fatalf("%s: %v", r.Value.Value, err)
	}
}

// click presses the mouse's button in the middle of an element, as soon as there is
// one that keeps its place; the expression is JavaScript.
func (m *marionette) click(element string) {
	m.t.Helper()
	var at [2]int
	m.js(&at, "return await still(() => "+element+", args[0])", element)
	m.do("WebDriver:PerformActions", obj{"actions": []obj{{"type": "pointer", "id": "mouse",
		"parameters": obj{"pointerType": "mouse"}, "actions": []obj{
			{"type": "pointerMove", "x": at[0], "y": at[1], "duration": 0, "origin": "viewport"},
			{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}}}}})
}

// Keys without a letter (WebDriver, 17.4.2).
const (
	keyControl = '\uE009'
	keyShift   = '\uE008'
	keyEnter   = '\uE006'
	keyDelete  = '\uE017'
	keyTab     = '\uE004'
)

// press presses all keys, one held while the next one is pressed.
func (m *marionette) press(keys ...rune) {
	m.t.Helper()
	var down, up []obj
	for _, k := range keys {
		down = append(down, obj{"type": "keyDown", "value": string(k)})
		up = append([]obj{{"type": "keyUp", "value": string(k)}}, up...)
	}
	m.keys(append(down, up...))
}

// write types a text.
func (m *marionette) write(text string) {
	m.t.Helper()
	var all []obj
	for _, k := range text {
		all = append(all, obj{"type": "keyDown", "value": string(k)}, obj{"type": "keyUp", "value": string(k)})
	}
	m.keys(all)
}

func (m *marionette) keys(actions []obj) {
	m.t.Helper()
	m.do("WebDriver:PerformActions", obj{"actions": []obj{{"type": "key", "id": "keyboard", "actions": actions}}})
}

// window goes to the window whose address ends in the name, waiting for it.
func (m *marionette) window(name string) {
	m.t.Helper()
	within(m.t, jsLimit, "a window "+name, func() bool {
		var handles []string
		if err := json.Unmarshal(m.do("WebDriver:GetWindowHandles", nil), &handles); err != nil {
			m.t.Fatal(err)
		}
		for _, h := range handles { // one may just have closed
			m.try("WebDriver:SwitchToWindow", obj{"handle": h})
			var at struct{ Value string }
			raw, err := m.try("WebDriver:GetCurrentURL", nil)
			if err == nil && json.Unmarshal(raw, &at) == nil && strings.HasSuffix(at.Value, name) {
				return true
			}
		}
		return false
	})
}

// screenshot returns the present window as PNG.
func (m *marionette) screenshot() []byte {
	m.t.Helper()
	var r struct{ Value string }
	if err := json.Unmarshal(m.do("WebDriver:TakeScreenshot", obj{"full": false, "hash": false}), &r); err != nil {
		m.t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(r.Value)
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}
