// The native kernel of bulk scoring: plain lines of records become columns, and columns become lines of results.
//
// The Python beside it is the one definition of what is right. The kernel answers only for blocks that are plain, with the
// same bytes, and says "not plain" for all others: escapes, duplicate keys, absent or nested values in wanted fields, integers of
// more than 18 digits, ids that are not plain strings or integers, and faults of any kind. kernel.py describes the calls.
//
// It never allocates; kernel.py gives it memory, whose size follows from that of the block and not from what a line says. It never
// reads beyond a block: each block ends in a newline, no token may hold one, and every loop stops at it. It never writes beyond a
// buffer: `write_lines` compares what is left of it before each record and before each text.

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int64_t NOT_PLAIN = -1;

// What a field holds; kernel.py has the same numbers, as it has those of the kinds of pieces.
enum FieldType : int64_t { FLOAT32 = 0, FLOAT64 = 1, INT64 = 2, TEXT = 3, ID = 4 };

// One wanted field of the records.
struct Field {
    const char* key;    // the key as a line has it between its quotes
    int64_t key_size;
    int64_t type;
    int64_t width;      // values in the list of each record; 0 if the record has one value, not a list
    char* out;          // numbers and ids: the place of the first record; texts: where the next text goes
    int64_t stride;     // bytes from one record's place to the next one's
    int64_t last_line;  // 1 + the line that had the field last; 0 before the first line
};

// The keys of the line before, by place: nearly all lines of a block have the same keys in the same order. A line with more keys is
// not plain, because each key that is not known is compared with all fields.
constexpr int64_t KNOWN_KEYS = 256;
struct Key {
    const char* text;
    int64_t size;
    Field* field;  // null: nobody wants it
};

// More nesting in a field that nobody wants is for the careful way.
constexpr int MAX_DEPTH = 64;
constexpr int64_t MAX_ID_BYTES = 1024;
// 18 digits always fit into an int64.
constexpr int MAX_INTEGER_DIGITS = 18;

// Powers of ten that a double holds exactly.
constexpr double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                             1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
constexpr int MAX_EXACT_POWER = 22;
constexpr uint64_t MAX_EXACT_INTEGER = uint64_t(1) << 53;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

const char* skip_space(const char* at) {
    while (*at == ' ' || *at == '\t' || *at == '\r') ++at;
    return at;
}

// ---- texts

bool continues(char c) { return (uint8_t(c) & 0xC0) == 0x80; }

// Past one character of several bytes; null if the bytes are not UTF-8. The newline at the end of the block stops it in time.
const char* skip_wide(const char* at) {
    const uint8_t first = uint8_t(at[0]), second = uint8_t(at[1]);
    if (first < 0xC2 || first > 0xF4 || !continues(at[1])) return nullptr;
    if (first < 0xE0) return at + 2;
    if (!continues(at[2])) return nullptr;
    const bool is_overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
    const bool is_surrogate = first == 0xED && second > 0x9F;
    if (is_overlong || is_surrogate || (first == 0xF4 && second > 0x8F)) return nullptr;
    if (first < 0xF0) return at + 3;
    return continues(at[3]) ? at + 4 : nullptr;
}

// The closing quote of a text whose first character is at `at`; null unless every character is plain.
const char* text_end(const char* at) {
    for (;;) {
        const uint8_t c = uint8_t(*at);
        if (c == '"') return at;
        if (c < 0x20 || c == '\\') return nullptr;
        if (c < 0x80) {
            ++at;
        } else if ((at = skip_wide(at)) == nullptr) {
            return nullptr;
        }
    }
}

// ---- numbers

struct Number {
    const char* start;
    const char* end;
    uint64_t digits;  // all digits as one integer, if there are at most 19
    int num_digits;
    int num_decimals;
    bool is_negative, has_fraction, has_exponent;

    bool is_integer() const { return !has_fraction && !has_exponent; }
    // `-0` is the integer 0 for some readers and -0.0 for others.
    bool is_plain_integer() const {
        return is_integer() && num_digits <= MAX_INTEGER_DIGITS && !(is_negative && digits == 0);
    }
};

const char* scan_digits(const char* at, Number& number) {
    for (; is_digit(*at); ++at, ++number.num_digits) number.digits = number.digits * 10 + uint64_t(*at - '0');
    return at;
}

// Past a number as JSON writes it; null if it is none.
const char* scan_number(const char* at, Number& number) {
    number = Number{at, at, 0, 0, 0, false, false, false};
    if (*at == '-') number.is_negative = true, ++at;
    if (!is_digit(*at) || (*at == '0' && is_digit(at[1]))) return nullptr;
    at = scan_digits(at, number);
    if (*at == '.') {
        const char* decimals = ++at;
        number.has_fraction = true;
        at = scan_digits(at, number);
        number.num_decimals = int(at - decimals);
        if (number.num_decimals == 0) return nullptr;
    }
    if (*at == 'e' || *at == 'E') {
        number.has_exponent = true;
        if (*++at == '+' || *at == '-') ++at;
        if (!is_digit(*at)) return nullptr;
        while (is_digit(*at)) ++at;
    }
    number.end = at;
    return at;
}

// The double that is nearest to the number; false if that is infinite, or is not a double of full precision.
bool to_double(const Number& number, double& value) {
    if (number.is_integer() && !number.is_plain_integer()) return false;
    const bool is_exact = number.num_digits <= 19 && number.digits <= MAX_EXACT_INTEGER && number.num_decimals <= MAX_EXACT_POWER;
    if (is_exact && !number.has_exponent) {  // both are exact, so their quotient is rounded once
        value = double(number.digits) / POWERS[number.num_decimals];
        if (number.is_negative) value = -value;
        return true;
    }
    return std::from_chars(number.start, number.end, value).ec == std::errc();
}

// ---- values

// Past a value that nobody wants; null unless every reader of JSON takes it.
const char* skip_value(const char* at, int depth);

const char* skip_word(const char* at, const char* word) {
    while (*word != 0) {
        if (*at++ != *word++) return nullptr;
    }
    return at;
}

const char* skip_text(const char* at) {
    if (*at != '"') return nullptr;
    const char* end = text_end(at + 1);
    return end == nullptr ? nullptr : end + 1;
}

// Past the rest of a list or an object, whose opening bracket is before `at`.
const char* skip_nested(const char* at, char closing, int depth) {
    at = skip_space(at);
    if (*at == closing) return at + 1;
    for (;;) {
        if (closing == '}') {
            if ((at = skip_text(skip_space(at))) == nullptr) return nullptr;
            at = skip_space(at);
            if (*at++ != ':') return nullptr;
        }
        if ((at = skip_value(skip_space(at), depth + 1)) == nullptr) return nullptr;
        at = skip_space(at);
        if (*at == closing) return at + 1;
        if (*at++ != ',') return nullptr;
    }
}

const char* skip_value(const char* at, int depth) {
    if (depth > MAX_DEPTH) return nullptr;
    switch (*at) {
        case '"': return skip_text(at);
        case '{': return skip_nested(at + 1, '}', depth);
        case '[': return skip_nested(at + 1, ']', depth);
        case 't': return skip_word(at, "true");
        case 'f': return skip_word(at, "false");
        case 'n': return skip_word(at, "null");
    }
    Number number;
    double ignored;
    at = scan_number(at, number);
    return at != nullptr && to_double(number, ignored) ? at : nullptr;
}

// Past a number that a field takes, which is written to `out`.
const char* read_number(const char* at, int64_t type, char* out) {
    Number number;
    if ((at = scan_number(at, number)) == nullptr) return nullptr;
    if (type == INT64) {
        if (!number.is_plain_integer()) return nullptr;
        const int64_t value = number.is_negative ? -int64_t(number.digits) : int64_t(number.digits);
        std::memcpy(out, &value, sizeof value);
        return at;
    }
    double value;
    if (!to_double(number, value)) return nullptr;
    if (type == FLOAT64) {
        std::memcpy(out, &value, sizeof value);
        return at;
    }
    const float narrow = float(value);
    if (!std::isfinite(narrow)) return nullptr;
    std::memcpy(out, &narrow, sizeof narrow);
    return at;
}

// Past a list of exactly `field.width` numbers.
const char* read_list(const char* at, const Field& field, char* out) {
    const int64_t item_size = field.type == FLOAT32 ? 4 : 8;
    if (*at++ != '[') return nullptr;
    for (int64_t i = 0; i < field.width; ++i) {
        if ((at = read_number(skip_space(at), field.type, out + i * item_size)) == nullptr) return nullptr;
        at = skip_space(at);
        if (*at++ != (i + 1 < field.width ? ',' : ']')) return nullptr;
    }
    return at;
}

// Past a text, which is copied to the end of the texts of the lines before, and gets a newline.
const char* read_text(const char* at, Field& field) {
    const char* past = skip_text(at);
    if (past == nullptr) return nullptr;
    const int64_t size = past - at - 2;
    std::memcpy(field.out, at + 1, size_t(size));
    field.out[size] = '\n';
    field.out += size + 1;
    return past;
}

// Past an id, whose place in the block is written to `out`: where it starts and ends, with its quotes.
const char* read_id(const char* at, const char* block, char* out) {
    const char* past;
    if (*at == '"') {
        past = skip_text(at);
        if (past == nullptr || past - at == 2 || past - at - 2 > MAX_ID_BYTES) return nullptr;
    } else {
        Number number;
        past = scan_number(at, number);
        if (past == nullptr || !number.is_plain_integer()) return nullptr;
    }
    const int64_t place[2] = {at - block, past - block};
    std::memcpy(out, place, sizeof place);
    return past;
}

// ---- lines

struct Reader {
    const char* block;
    Field* fields;
    int64_t num_fields;
    Key known[KNOWN_KEYS];
    int64_t num_known;
    int64_t num_ids;

    Field* wanted(const char* key, int64_t size) const {
        for (Field* field = fields; field != fields + num_fields; ++field) {
            if (field->key_size == size && std::memcmp(field->key, key, size_t(size)) == 0) return field;
        }
        return nullptr;
    }

    // Past the key whose first character is at `at` and its closing quote; `place` is its number in the line.
    const char* read_key(const char* at, const char* end, int64_t place, Field*& field) {
        if (place < num_known) {
            const Key& known_key = known[place];
            const char* quote = at + known_key.size;
            if (quote < end && *quote == '"' && std::memcmp(at, known_key.text, size_t(known_key.size)) == 0) {
                field = known_key.field;
                return quote + 1;
            }
        }
        const char* quote = place < KNOWN_KEYS ? text_end(at) : nullptr;
        if (quote == nullptr) return nullptr;
        field = wanted(at, quote - at);
        known[place] = Key{at, quote - at, field};
        if (place == num_known) ++num_known;
        return quote + 1;
    }

    const char* read_value(const char* at, Field* field, int64_t line) {
        if (field == nullptr) return skip_value(at, 0);
        if (field->last_line == line + 1) return nullptr;  // a duplicate key
        field->last_line = line + 1;
        if (field->type == TEXT) return read_text(at, *field);
        char* out = field->out + line * field->stride;
        if (field->type == ID) {
            ++num_ids;
            return read_id(at, block, out);
        }
        return field->width != 0 ? read_list(at, *field, out) : read_number(at, field->type, out);
    }

    bool has_all(int64_t line) const {
        for (const Field* field = fields; field != fields + num_fields; ++field) {
            if (field->last_line != line + 1 && field->type != ID) return false;
        }
        return true;
    }

    // Past one line with its newline; null unless it is one plain object with every wanted field.
    const char* read_line(const char* at, const char* end, int64_t line) {
        at = skip_space(at);
        if (*at++ != '{') return nullptr;
        for (int64_t place = 0;; ++place) {
            Field* field;
            at = skip_space(at);
            if (*at++ != '"') return nullptr;
            if ((at = read_key(at, end, place, field)) == nullptr) return nullptr;
            at = skip_space(at);
            if (*at++ != ':') return nullptr;
            if ((at = read_value(skip_space(at), field, line)) == nullptr) return nullptr;
            at = skip_space(at);
            if (*at == '}') break;
            if (*at++ != ',') return nullptr;
        }
        at = skip_space(at + 1);
        return *at == '\n' && has_all(line) ? at + 1 : nullptr;
    }
};

// ---- results

enum PieceKind : int64_t { CONSTANT = 0, FLOATS32 = 1, FLOATS64 = 2, INTS64 = 3, BOOLS = 4, LABELS = 5, TEXTS = 6, STRINGS = 7, SPANS = 8, DIGITS = 9 };

// A part of every line: constant text, or what one column has for the record.
struct Piece {
    int64_t kind;
    const char* data;        // the text; the values; the encoded strings; the block that ids are in; random bytes
    int64_t size;            // bytes of a constant; else values of each record, which are separated by commas
    int64_t stride;          // bytes from one record's values to the next one's
    const char* texts;       // LABELS, TEXTS: all texts, one behind the other
    const int64_t* offsets;  // LABELS, TEXTS: text i is texts[offsets[i]:offsets[i + 1]]; SPANS: pairs of start and end in data
    int64_t num_texts;       // LABELS
};

// The longest number of each kind, with a comma: -0.0000012345678, -2.2250738585072014e-308, -9223372036854775808, false.
constexpr int64_t NUMBER_BYTES[] = {0, 18, 26, 22, 6};
constexpr int64_t DIGITS_BYTES = 16;

char* copy(char* out, const char* text, int64_t size) {
    std::memcpy(out, text, size_t(size));
    return out + size;
}

// A copy of a few bytes without a call, in parts of which the last two may overlap.
char* copy_few(char* out, const char* text, int size) {
    if (size >= 8) {
        for (int i = 0; i < size - 8; i += 8) std::memcpy(out + i, text + i, 8);
        std::memcpy(out + size - 8, text + size - 8, 8);
    } else if (size >= 4) {
        std::memcpy(out, text, 4);
        std::memcpy(out + size - 4, text + size - 4, 4);
    } else {
        for (int i = 0; i < size; ++i) out[i] = text[i];
    }
    return out + size;
}

// The digits and the power of ten of a number that is neither 0 nor infinite: 0.d1d2d3... * 10^point.
struct Decimal {
    char digits[20];
    int num_digits;
    int point;
};

// Powers of five: a product with a float's 24 bits leaves room for two more bits in an uint64.
constexpr uint64_t FIVES[] = {1,     5,      25,      125,     625,      3125,      15625,      78125,      390625,
                              1953125, 9765625, 48828125, 244140625, 1220703125, 6103515625, 30517578125, 152587890625};

// The shortest digits of a float from 2^-30 to below 2^24, in exact integers; false for others.
//
// The float is c * 2^q, and 10^-places is the greatest power of ten that is not above its last bit. In quarters of a unit of
// 2^-shift, the floats around it end at `lower` and `upper`. At most one multiple of ten is between them, which has a digit less;
// if there is none, the nearest whole number is the answer, and of two the even one.
bool shortest_of_middling(float value, Decimal& decimal) {
    if (!(value >= 0x1p-30f && value < 0x1p24f)) return false;
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint64_t fraction = bits & 0x7fffff, c = fraction | 0x800000;
    const int q = int(bits >> 23) - 150;
    const int places = (-q * 1233 + 4095) >> 12;  // -q * log10(2), rounded up
    const int shift = -q - places;
    const uint64_t half = FIVES[places], exact = c * half;
    const uint64_t excluded = c & 1;  // the ends are read as the float whose c is even
    const uint64_t upper = 4 * exact + 2 * half - excluded;
    const uint64_t lower = 4 * exact - (fraction == 0 ? half : 2 * half) + excluded;  // floats below a power of two are denser
    const uint64_t whole = exact >> shift, tens = whole / 10;
    const bool is_below = 10 * tens << (shift + 2) >= lower, is_above = 10 * (tens + 1) << (shift + 2) <= upper;
    const uint64_t rest = exact - (whole << shift), unit = uint64_t(1) << shift;
    const uint64_t nearest = whole + (2 * rest + (whole & 1) > unit);
    const bool is_ten = is_below | is_above;
    auto digits = uint32_t(is_ten ? tens + is_above : nearest);
    decimal.point = is_ten - places;
    for (; digits % 10 == 0; digits /= 10) ++decimal.point;
    decimal.num_digits = int(std::to_chars(decimal.digits, decimal.digits + sizeof decimal.digits, digits).ptr - decimal.digits);
    decimal.point += decimal.num_digits;
    return true;
}

bool shortest_of_middling(double, Decimal&) { return false; }

template <typename Float>
void shortest(Float value, Decimal& decimal) {
    if (shortest_of_middling(value, decimal)) return;
    char text[32];
    const char* end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific).ptr;
    decimal.num_digits = 0;
    const char* at = text;
    for (; at != end && *at != 'e'; ++at) {
        if (*at != '.') decimal.digits[decimal.num_digits++] = *at;
    }
    int exponent = 0;
    std::from_chars(at[1] == '+' ? at + 2 : at + 1, end, exponent);
    decimal.point = exponent + 1;
}

// Numbers without an exponent have at most so many places before the point, and so many zeros behind it. orjson sets the same bounds.
template <typename Float>
constexpr int MOST_PLACES = sizeof(Float) == 4 ? 13 : 16;
template <typename Float>
constexpr int MOST_ZEROS = sizeof(Float) == 4 ? 5 : 4;

// The shortest digits that give the same number, laid out as orjson does.
template <typename Float>
char* write_float(char* out, Float value) {
    if (!std::isfinite(value)) return copy(out, "null", 4);
    if (std::signbit(value)) {
        *out++ = '-';
        value = -value;
    }
    if (value == 0) return copy(out, "0.0", 3);
    Decimal decimal;
    shortest(value, decimal);
    const int size = decimal.num_digits, point = decimal.point;
    if (point > 0 && point <= MOST_PLACES<Float>) {
        if (size <= point) {
            out = copy_few(out, decimal.digits, size);
            std::memset(out, '0', size_t(point - size));
            return copy(out + point - size, ".0", 2);
        }
        out = copy_few(out, decimal.digits, point);
        *out++ = '.';
        return copy_few(out, decimal.digits + point, size - point);
    }
    if (point >= -MOST_ZEROS<Float> && point <= 0) {
        out = copy(out, "0.", 2);
        std::memset(out, '0', size_t(-point));
        return copy_few(out - point, decimal.digits, size);
    }
    *out++ = decimal.digits[0];
    if (size > 1) {
        *out++ = '.';
        out = copy_few(out, decimal.digits + 1, size - 1);
    }
    *out++ = 'e';
    if (point > 0) *out++ = '+';
    return std::to_chars(out, out + 8, point - 1).ptr;
}

template <typename Value>
Value load(const char* at) {
    Value value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

char* write_value(char* out, int64_t kind, const char* values, int64_t i) {
    switch (kind) {
        case FLOATS32: return write_float(out, load<float>(values + 4 * i));
        case FLOATS64: return write_float(out, load<double>(values + 8 * i));
        case INTS64: return std::to_chars(out, out + NUMBER_BYTES[INTS64], load<int64_t>(values + 8 * i)).ptr;
        default: return values[i] != 0 ? copy(out, "true", 4) : copy(out, "false", 5);
    }
}

char* write_values(char* out, const Piece& piece, int64_t record) {
    const char* values = piece.data + record * piece.stride;
    for (int64_t i = 0; i < piece.size; ++i) {
        if (i != 0) *out++ = ',';
        out = write_value(out, piece.kind, values, i);
    }
    return out;
}

char* write_digits(char* out, const char* bytes) {
    *out++ = '"';
    for (int64_t i = 0; i < DIGITS_BYTES; ++i) {
        *out++ = "0123456789abcdef"[uint8_t(bytes[i]) >> 4];
        *out++ = "0123456789abcdef"[uint8_t(bytes[i]) & 15];
    }
    *out++ = '"';
    return out;
}

struct Text {
    const char* start;
    int64_t size;
};

// The text that a piece has for a record; its size is below 0 if there is none.
Text text_of(Piece& piece, int64_t record) {
    if (piece.kind == STRINGS) {  // between quotes in an encoded list; none of them holds a quote
        const char* start = piece.data;
        const void* quote = piece.size > 0 ? std::memchr(start, '"', size_t(piece.size)) : nullptr;
        if (quote == nullptr) return Text{start, NOT_PLAIN};
        const int64_t size = static_cast<const char*>(quote) - start;
        const int64_t past = size + 3 < piece.size ? size + 3 : piece.size;
        piece.data += past;
        piece.size -= past;
        return Text{start, size};
    }
    if (piece.kind == SPANS) return Text{piece.data + piece.offsets[2 * record], piece.offsets[2 * record + 1] - piece.offsets[2 * record]};
    const int64_t i = piece.kind == LABELS ? load<int64_t>(piece.data + record * piece.stride) : record;
    if (piece.kind == LABELS && (i < 0 || i >= piece.num_texts)) return Text{nullptr, NOT_PLAIN};
    return Text{piece.texts + piece.offsets[i], piece.offsets[i + 1] - piece.offsets[i]};
}

bool is_number(int64_t kind) { return kind >= FLOATS32 && kind <= BOOLS; }

// What the pieces of a known greatest size may take for one record.
int64_t bounded_bytes(const Piece* pieces, int64_t num_pieces) {
    int64_t total = 0;
    for (const Piece* piece = pieces; piece != pieces + num_pieces; ++piece) {
        if (piece->kind == CONSTANT) total += piece->size;
        if (piece->kind == DIGITS) total += 2 * DIGITS_BYTES + 2;
        if (is_number(piece->kind)) total += piece->size * NUMBER_BYTES[piece->kind];
    }
    return total;
}

}  // namespace

extern "C" {

// The number of this contract; kernel.py takes no library with another.
int64_t kernel_version() { return 3; }

// Reads `num_lines` lines of a block into the places of the fields. Returns how many had an id, or NOT_PLAIN.
int64_t read_lines(const char* block, int64_t size, int64_t num_lines, Field* fields, int64_t num_fields) {
    if (size <= 0 || block[size - 1] != '\n') return NOT_PLAIN;
    Reader reader;
    reader.block = block, reader.fields = fields, reader.num_fields = num_fields;
    reader.num_known = reader.num_ids = 0;
    const char *at = block, *end = block + size;
    for (int64_t line = 0; line < num_lines; ++line) {
        if (at == end || (at = reader.read_line(at, end, line)) == nullptr) return NOT_PLAIN;
    }
    return at == end ? reader.num_ids : NOT_PLAIN;
}

// Writes `num_records` lines of pieces, and the size of each if `sizes` is not null. Returns their bytes, or NOT_PLAIN.
int64_t write_lines(Piece* pieces, int64_t num_pieces, int64_t num_records, char* out, int64_t capacity, int64_t* sizes) {
    const int64_t bounded = bounded_bytes(pieces, num_pieces);
    char *at = out, *end = out + capacity;
    for (int64_t record = 0; record < num_records; ++record) {
        const char* start = at;
        int64_t left = end - at - bounded;  // for the texts of this record
        if (left < 0) return NOT_PLAIN;
        for (Piece* piece = pieces; piece != pieces + num_pieces; ++piece) {
            if (piece->kind == CONSTANT) {
                at = copy(at, piece->data, piece->size);
            } else if (is_number(piece->kind)) {
                at = write_values(at, *piece, record);
            } else if (piece->kind == DIGITS) {
                at = write_digits(at, piece->data + record * DIGITS_BYTES);
            } else {
                const Text text = text_of(*piece, record);
                if (text.size < 0 || (left -= text.size) < 0) return NOT_PLAIN;
                at = copy(at, text.start, text.size);
            }
        }
        if (sizes != nullptr) sizes[record] = at - start;
    }
    return at - out;
}

}
