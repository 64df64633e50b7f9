package bench

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
)

// file is an attachment. What programs have packed already is bytes by chance here,
// which is what packed data look like; the frame around it is that of the format.
type file struct {
	name, media string
	data        []byte
}

// makeFile makes a file of about size bytes.
func makeFile(r *rand.Rand, w *lexicon, size int) file {
	f := file{name: hex(r, 4)}
	switch kind := r.IntN(20); {
	case kind < 8:
		f.media, f.name, f.data = "application/pdf", "Document-"+f.name+".pdf", portable(r, w, size)
	case kind < 12:
		f.media, f.name, f.data = "image/jpeg", "IMG_"+f.name+".jpg", photograph(r, size)
	case kind < 16:
		f.media, f.name, f.data = "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
			"Report-"+f.name+".docx", archive(r, size, documentParts)
	case kind < 18:
		f.media, f.name, f.data = "image/png", "Screenshot-"+f.name+".png", drawing(r, size)
	case kind < 19:
		f.media, f.name, f.data = "text/csv", "export-"+f.name+".csv", sheet(r, w, size)
	default:
		f.media, f.name, f.data = "application/zip", "files-"+f.name+".zip", archive(r, size, nil)
	}
	return f
}

// portable makes a document of pages: objects in plain text around packed streams.
func portable(r *rand.Rand, w *lexicon, size int) []byte {
	b := append(make([]byte, 0, size+8192), "%PDF-1.7\n%\xb5\xb5\xb5\xb5\n"...)
	var at []int
	object := func(dict string, packed int) {
		at = append(at, len(b))
		b = fmt.Appendf(b, "%d 0 obj\n<<%s", len(at), dict)
		if packed == 0 {
			b = append(b, ">>\nendobj\n"...)
			return
		}
		b = fmt.Appendf(b, "/Filter/FlateDecode/Length %d>>\nstream\n", packed)
		b = append(random(b, r, packed), "\nendstream\nendobj\n"...)
	}
	object("/Type/Catalog/Pages 2 0 R/Lang(en-US)/StructTreeRoot 15 0 R/MarkInfo<</Marked true>>", 0)
	object(fmt.Sprintf("/Title(%s)/Producer(Example Writer)/CreationDate(D:20240102030405+01'00')", w.title(r)), 0)
	for range 2 {
		object("/Length1 61384", min(between(r, 12_000, 60_000), size/4))
	}
	for len(b) < size {
		object("/Type/Page/Parent 2 0 R/Resources<</Font<</F1 5 0 R/F2 9 0 R>>/ExtGState<</GS7 7 0 R/GS8 8 0 R>>/ProcSet[/PDF/Text/ImageB/ImageC/ImageI]>>"+
			"/MediaBox[0 0 595.32 841.92]/Group<</Type/Group/S/Transparency/CS/DeviceRGB>>/Tabs/S/StructParents 0", 0)
		object("", min(between(r, 1_200, 5_000), size))
		if r.IntN(4) == 0 {
			object("/Type/XObject/Subtype/Image/Width 1240/Height 860/ColorSpace/DeviceRGB/BitsPerComponent 8", min(between(r, 8_000, 90_000), size/2))
		}
	}
	start := len(b)
	b = fmt.Appendf(b, "xref\n0 %d\n0000000000 65535 f\r\n", len(at)+1)
	for _, o := range at {
		b = fmt.Appendf(b, "%010d 00000 n\r\n", o)
	}
	return fmt.Appendf(b, "trailer\n<</Size %d/Root 1 0 R/Info 2 0 R>>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, start)
}

// photograph makes a JPEG: tables, what the camera notes with its padding, and packed
// data.
func photograph(r *rand.Rand, size int) []byte {
	b := append(make([]byte, 0, size+8192), "\xff\xd8\xff\xe1\x10\x00Exif\x00\x00II*\x00\x08\x00\x00\x00"...)
	b = append(b, "Example Camera\x00Model 7\x002024:05:06 07:08:09\x00"...)
	b = random(b, r, 300)
	b = append(b, make([]byte, 3_700)...)
	b = append(b, "\xff\xdb\x00\x43\x00\xff\xc4\x00\x1f\x00"...)
	for i := range 200 {
		b = append(b, byte(i*7/3))
	}
	b = append(b, "\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00"...)
	return append(random(b, r, size), 0xff, 0xd9)
}

// drawing makes a PNG.
func drawing(r *rand.Rand, size int) []byte {
	b := append(make([]byte, 0, size+1024), "\x89PNG\r\n\x1a\n"...)
	chunk := func(kind string, data []byte) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
		start := len(b)
		b = append(append(b, kind...), data...)
		b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
	}
	chunk("IHDR", []byte("\x00\x00\x05\x00\x00\x00\x03\x20\x08\x02\x00\x00\x00"))
	chunk("pHYs", []byte("\x00\x00\x0e\xc4\x00\x00\x0e\xc4\x01"))
	for left := size; left > 0; left -= 8192 {
		chunk("IDAT", random(nil, r, min(left, 8192)))
	}
	chunk("IEND", nil)
	return b
}

// documentParts are what is inside of a document of a word processor.
var documentParts = []string{"[Content_Types].xml", "_rels/.rels", "word/_rels/document.xml.rels", "word/document.xml",
	"word/theme/theme1.xml", "word/media/image1.png", "word/media/image2.jpeg", "word/settings.xml", "word/fontTable.xml",
	"word/webSettings.xml", "word/styles.xml", "docProps/app.xml", "docProps/core.xml"}

// archive makes a ZIP file with the members, or with a few, of about size bytes.
func archive(r *rand.Rand, size int, members []string) []byte {
	if members == nil {
		for range 1 + r.IntN(12) {
			members = append(members, fmt.Sprintf("files/%s.bin", hex(r, 8)))
		}
	}
	b := make([]byte, 0, size+4096)
	var directory []byte
	for i, name := range members {
		n := max((size-len(b))/(len(members)-i), 200)
		at := len(b)
		fields := binary.LittleEndian.AppendUint32([]byte("\x14\x00\x06\x00\x08\x00\x00\x00\x21\x00"), r.Uint32())
		fields = binary.LittleEndian.AppendUint32(fields, uint32(n))
		fields = binary.LittleEndian.AppendUint32(fields, uint32(n*4))
		fields = binary.LittleEndian.AppendUint16(fields, uint16(len(name)))
		b = append(append(append(append(b, "PK\x03\x04"...), fields...), 0, 0), name...)
		b = random(b, r, n)
		directory = append(append(append(directory, "PK\x01\x02\x2d\x00"...), fields...), make([]byte, 12)...)
		directory = append(binary.LittleEndian.AppendUint32(directory, uint32(at)), name...)
	}
	end := binary.LittleEndian.AppendUint32([]byte("PK\x05\x06\x00\x00\x00\x00\x0d\x00\x0d\x00"), uint32(len(directory)))
	end = binary.LittleEndian.AppendUint32(end, uint32(len(b)))
	return append(append(append(b, directory...), end...), 0, 0)
}

// sheet makes a table as text.
func sheet(r *rand.Rand, w *lexicon, size int) []byte {
	b := append(make([]byte, 0, size+256), "date;number;customer;article;amount;price;total\r\n"...)
	for len(b) < size {
		amount, price := 1+r.IntN(40), 100+r.IntN(90_000)
		b = fmt.Appendf(b, "2024-%02d-%02d;%d;%s %s;%s;%d;%d,%02d;%d,%02d\r\n", 1+r.IntN(12), 1+r.IntN(28), 100_000+r.IntN(900_000),
			w.given(r), w.family(r), w.title(r), amount, price/100, price%100, amount*price/100, amount*price%100)
	}
	return b
}
