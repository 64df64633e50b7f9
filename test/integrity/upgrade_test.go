package integrity

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/martlet-mail/martlet/test/house"
	"github.com/martlet-mail/martlet/test/promise"
)

// TestR17EveryFormatIsRead opens what a version of each stored form has written, killed while
// it ran. Each archive holds a store and the answers that this version itself gave to some
// commands of IMAP; today's must be the same, byte for byte, now and after another start.
func TestR17EveryFormatIsRead(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.tar.zst")
	if err != nil || len(archives) < 6 {
		t.Fatalf("%d archives (%v)", len(archives), err)
	}
	asked := 0
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".tar.zst"), func(t *testing.T) {
			img := unpack(t, path)
			talk := string(img["answers"])
			delete(img, "answers")
			fs, err := img.disk()
			if err != nil {
				t.Fatal(err)
			}
			for _, start := range []string{"first start", "second start"} {
				t.Run(start, func(t *testing.T) { asked += ask(t, house.New(t, house.Options{FS: fs}), talk) })
			}
			h, err := open(fs)
			if err != nil {
				t.Fatal(err)
			}
			defer h.close()
			if problems := h.verify(context.Background()); len(problems) > 0 {
				t.Errorf("verify: %v", problems)
			}
		})
	}
	promise.Kept(t, "R17", "formats", len(archives), "answers compared", asked)
}

// ask gives each command and compares the answer.
func ask(t *testing.T, h *house.House, talk string) (asked int) {
	c := h.Dial(t, "imap")
	c.Line()
	for i, part := range strings.Split(talk, "=== ")[1:] {
		command, want, _ := strings.Cut(part, "\r\n")
		got, tagged := c.Tagged("tag-of-the-test", command)
		if !strings.HasPrefix(tagged, "tag-of-the-test OK") {
			t.Fatalf("%s: %s", command, tagged)
		}
		if i == 0 { // LOGIN
			continue
		}
		answer := ""
		for _, line := range got {
			if !strings.HasPrefix(command, "EXAMINE") || strings.Contains(line, "UIDVALIDITY") || strings.Contains(line, "UIDNEXT") ||
				strings.Contains(line, "EXISTS") || strings.Contains(line, "HIGHESTMODSEQ") {
				answer += line + "\r\n"
			}
		}
		if asked++; lasting.Replace(answer) != lasting.Replace(want) {
			t.Errorf("%s: the answer is %s", command, firstDifference(answer, want))
		}
	}
	if asked == 0 {
		t.Error("nothing was asked")
	}
	return asked
}

// lasting leaves out what is true of one session only.
var lasting = strings.NewReplacer(` \Recent`, "", `\Recent`, "")

func firstDifference(got, want string) string {
	n := 0
	for n < min(len(got), len(want)) && got[n] == want[n] {
		n++
	}
	from := max(0, n-60)
	return got[from:min(len(got), n+80)] + "\n, and was\n" + want[from:min(len(want), n+80)]
}

// unpack reads an archive of a folder.
func unpack(t *testing.T, path string) image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	img := image{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return img
		}
		var b bytes.Buffer
		if err == nil {
			_, err = io.Copy(&b, r)
		}
		if err != nil {
			t.Fatal(err)
		}
		img[h.Name] = b.Bytes()
	}
}
