package authres_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/check/authres"
)

// TestAnotherReader has fields with what strangers chose in them read by authres of Python.
func TestAnotherReader(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("set MARTLET_PEERS=1 to run real programs")
	}
	if err := exec.Command("/usr/bin/python3", "-c", "import authres").Run(); err != nil {
		t.Skip("python3-authres is not installed")
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "testdata/reader.py")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	lines := bufio.NewScanner(out)
	for _, evil := range []string{"bank.test", "a@bank.test", "2001:db8::1", "x; dmarc=pass", `x" ; dkim=pass header.d=bank.test`, "x\r\nX: y", "(x", "x)", `\`, `"`, `a\"b`, "a b", "'", "=?utf-8?q?x?=", "b\xc3\xbccher", "a/b+c==", "*"} {
		f := authres.Field{ID: "mx.here.test", Results: []authres.Result{
			{Method: "spf", Value: "fail", Reason: evil, Props: []authres.Property{{Type: "smtp", Name: "mailfrom", Value: evil}}},
			{Method: "dmarc", Value: "fail", Comment: evil, Props: []authres.Property{{Type: "header", Name: "from", Value: evil}, {Type: "policy", Name: "dmarc", Value: "reject"}}},
		}}
		field := strings.TrimSuffix(string(f.Append(nil)), "\r\n")
		json.NewEncoder(in).Encode(field)
		if !lines.Scan() {
			t.Fatal("the program ended", lines.Err())
		}
		var got []any
		if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		// It leaves quoted pairs as they are.
		v := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(printable(evil))
		want := fmt.Sprintf("[mx.here.test [[spf fail %s [[smtp mailfrom %s]]] [dmarc fail <nil> [", v, v)
		if s := fmt.Sprint(got); !strings.HasPrefix(s, want) || !strings.HasSuffix(s, "[policy dmarc reject]]]]]") {
			t.Errorf("%q:\n%s\n got %s\nwant %s...", evil, field, s, want)
		}
	}
}
