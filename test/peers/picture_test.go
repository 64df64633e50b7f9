package peers

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"slices"
)

// keep leaves a picture of the window, in 256 colours, if somebody asked for it.
func (tb *thunderbird) keep(name string) {
	tb.t.Helper()
	shot := tb.screenshot()
	img, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		tb.t.Fatalf("the screenshot is no picture: %v", err)
	}
	if n := len(colours(img, 1<<16)); n < 50 {
		tb.t.Errorf("the screenshot has only %d colours: nothing is drawn", n)
	}
	dir := os.Getenv("MARTLET_SCREENSHOTS")
	if dir == "" {
		return
	}
	var b bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, reduced(img))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644)
	}
	if err != nil {
		tb.t.Fatal(err)
	}
}

// colours returns the colours of a picture, the most frequent first, at most n.
func colours(img image.Image, n int) []color.Color {
	count := map[color.Color]int{}
	var all []color.Color
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := img.At(x, y)
			if count[c]++; count[c] == 1 {
				all = append(all, c)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b color.Color) int { return count[b] - count[a] })
	return all[:min(n, len(all))]
}

// reduced returns the picture in its 256 most frequent colours.
func reduced(img image.Image) image.Image {
	out := image.NewPaletted(img.Bounds(), colours(img, 256))
	draw.Draw(out, out.Bounds(), img, img.Bounds().Min, draw.Src)
	return out
}
