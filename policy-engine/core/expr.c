/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text -> tokens -> recursive descent with one token of lookahead -> a list of steps in postfix
 * order, which a small stack of booleans evaluates. A comparison is one step with two operands, so
 * only booleans ever stand on the stack, and its depth is bounded by the depth of parentheses.
 *
 *     or      = and { "||" and }
 *     and     = unary { "&&" unary }
 *     unary   = "!" unary | "(" or ")" | "true" | "false" | "has" "(" attribute ")"
 *             | operand compare operand | operand "in" "[" constant { "," constant } "]"
 *     operand = attribute | constant
 *
 * The parser stops at the first error: after it, an expression's meaning is anybody's guess.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/expr.h>
#include <vdc/policy.h>
#include <vdc/quantity.h>
#include <vdc/tree.h>

enum type { TYPE_STRING, TYPE_NUMBER, TYPE_SIZE, TYPE_DURATION };

static const char *const type_texts[] = {"a string", "a number", "a size", "a duration"};

enum attribute {
    NODE_NAME,
    NODE_RACK,
    NODE_LABEL,
    NODE_NUMA_NODES,
    NODE_CPUS,
    NODE_MEMORY,
    NODE_CPU_MODEL,
    NODE_ACCELERATOR,
    PARTITION_NAME,
    PARTITION_TENANT,
    PARTITION_CLASS,
    PARTITION_LABEL,
    PARTITION_VCPUS,
    PARTITION_MEMORY,
};

/* In the order of enum attribute. */
static const struct {
    unsigned subject;
    const char *name;
    enum type type;
} attributes[] = {
    {VDC_EXPR_NODE, "name", TYPE_STRING},       {VDC_EXPR_NODE, "rack", TYPE_STRING},
    {VDC_EXPR_NODE, "labels", TYPE_STRING},     {VDC_EXPR_NODE, "numa_nodes", TYPE_NUMBER},
    {VDC_EXPR_NODE, "cpus", TYPE_NUMBER},       {VDC_EXPR_NODE, "memory", TYPE_SIZE},
    {VDC_EXPR_NODE, "cpu_model", TYPE_STRING},  {VDC_EXPR_NODE, "accelerator", TYPE_STRING},
    {VDC_EXPR_PARTITION, "name", TYPE_STRING},  {VDC_EXPR_PARTITION, "tenant", TYPE_STRING},
    {VDC_EXPR_PARTITION, "class", TYPE_STRING}, {VDC_EXPR_PARTITION, "labels", TYPE_STRING},
    {VDC_EXPR_PARTITION, "vcpus", TYPE_NUMBER}, {VDC_EXPR_PARTITION, "memory", TYPE_SIZE},
};

enum compare { EQUAL, UNEQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL };

struct operand {
    bool constant;
    enum type type;
    enum attribute attribute; /* unless constant */
    const char *text;         /* constant string, or the key of a label */
    int64_t number;           /* constant: thousandths, bytes or nanoseconds */
};

enum step_kind { STEP_COMPARE, STEP_IN, STEP_HAS, STEP_CONSTANT, STEP_NOT, STEP_AND, STEP_OR };

struct step {
    enum step_kind kind;
    enum compare compare;
    bool value; /* STEP_CONSTANT */
    struct operand left;
    struct operand right;
    size_t list; /* STEP_IN: the first of its constants */
    size_t list_count;
};

/* Two pending left sides (of || and of &&) per level of parentheses, and the value itself. */
#define STACK_MAX (2 * (VDC_EXPR_DEPTH_MAX + 1) + 1)

struct vdc_expr {
    char *text;
    char *strings; /* constants and label keys, each NUL-terminated */
    struct step *steps;
    size_t step_count;
    size_t step_cap;
    struct operand *constants; /* of all lists */
    size_t constant_count;
    size_t constant_cap;
    unsigned subjects;
};

/* ---- tokens ---- */

enum token_kind { TOKEN_END, TOKEN_WORD, TOKEN_STRING, TOKEN_NUMBER, TOKEN_SIGN };

struct token {
    enum token_kind kind;
    size_t offset;
    size_t len;
};

struct parser {
    const char *text;
    size_t len;
    size_t at; /* behind the current token */
    struct token token;
    unsigned subjects;
    unsigned depth;
    struct vdc_expr *expr;
    char *string_end; /* where the next string is kept in expr->strings */
    bool failed;
    struct vdc_expr_error *error;
};

static void fail_at(struct parser *parser, size_t offset, const char *fmt, ...) VDC_PRINTF(3, 4);

/* Keeps the first error; the callers unwind by looking at parser->failed. */
static void fail_at(struct parser *parser, size_t offset, const char *fmt, ...)
{
    if (parser->failed) {
        return;
    }
    parser->failed = true;
    parser->error->offset = offset;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(parser->error->text, sizeof parser->error->text, fmt, ap);
    va_end(ap);
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char peek(const struct parser *parser, size_t at)
{
    return at < parser->len ? parser->text[at] : 0;
}

/* The length of the string at `start` with its quotes, or 0 after an error. */
static size_t scan_string(struct parser *parser, size_t start)
{
    char quote = parser->text[start];
    for (size_t at = start + 1; at < parser->len; at++) {
        if (parser->text[at] == quote) {
            return at + 1 - start;
        }
        if (parser->text[at] == '\\') {
            char escaped = peek(parser, at + 1);
            if (escaped != quote && escaped != '\\') {
                fail_at(parser, at, "only \\\\ and \\%c are known after a backslash", quote);
                return 0;
            }
            at++;
        }
    }
    fail_at(parser, start, "a string that does not end");
    return 0;
}

static void next_token(struct parser *parser)
{
    size_t at = parser->at;
    while (peek(parser, at) == ' ' || peek(parser, at) == '\t' || peek(parser, at) == '\n') {
        at++;
    }
    struct token *token = &parser->token;
    *token = (struct token){.kind = TOKEN_END, .offset = at};
    char c = peek(parser, at);
    if (at >= parser->len || parser->failed) {
        parser->at = at;
        return;
    }
    if (is_letter(c)) {
        token->kind = TOKEN_WORD;
        while (is_letter(peek(parser, at + token->len)) ||
               is_digit(peek(parser, at + token->len))) {
            token->len++;
        }
    } else if (is_digit(c)) {
        token->kind = TOKEN_NUMBER;
        for (c = peek(parser, at); is_digit(c) || is_letter(c) || c == '.' || c == '%';) {
            token->len++;
            c = peek(parser, at + token->len);
        }
    } else if (c == '"' || c == '\'') {
        token->kind = TOKEN_STRING;
        token->len = scan_string(parser, at);
    } else {
        token->kind = TOKEN_SIGN;
        char second = peek(parser, at + 1);
        bool two = (second == '=' && strchr("=!<>", c) != NULL) || (c == '&' && second == '&') ||
                   (c == '|' && second == '|');
        token->len = two ? 2 : 1;
        if (!two && (c == '=' || c == '&' || c == '|')) {
            fail_at(parser, at, "\"%c\": did you mean \"%c%c\"?", c, c, c);
        } else if (!two && strchr("!<>()[],.", c) == NULL) {
            fail_at(parser, at,
                    c > 0x20 && c < 0x7f ? "\"%c\" is not known here"
                                         : "a character that is not known here (%#x)",
                    (unsigned char)c);
        }
    }
    parser->at = at + token->len;
}

static bool token_is(const struct parser *parser, const char *text)
{
    const struct token *token = &parser->token;
    return (token->kind == TOKEN_SIGN || token->kind == TOKEN_WORD) && !parser->failed &&
           token->len == strlen(text) &&
           memcmp(parser->text + token->offset, text, token->len) == 0;
}

/* Takes the token if it is `text`. */
static bool accept(struct parser *parser, const char *text)
{
    if (!token_is(parser, text)) {
        return false;
    }
    next_token(parser);
    return true;
}

static void expect(struct parser *parser, const char *text, const char *why)
{
    if (!accept(parser, text)) {
        fail_at(parser, parser->token.offset, "expected \"%s\" %s", text, why);
    }
}

/* ---- steps ---- */

static struct step *add_step(struct parser *parser, enum step_kind kind)
{
    struct vdc_expr *expr = parser->expr;
    if (expr->step_count == VDC_EXPR_OPS_MAX) {
        fail_at(parser, parser->token.offset, "more than %d comparisons and operators",
                VDC_EXPR_OPS_MAX);
        expr->step_count--; /* the caller still gets one to fill */
    }
    VDC_GROW(expr->steps, expr->step_cap, expr->step_count + 1);
    struct step *step = &expr->steps[expr->step_count++];
    *step = (struct step){.kind = kind};
    return step;
}

/* Keeps `len` bytes as a string that lives with the expression. All strings together fit, for each
 * is shorter than what stands in the text with its quotes (or its '.'). */
static const char *keep_string(struct parser *parser, const char *text, size_t len)
{
    char *kept = parser->string_end;
    memcpy(kept, text, len);
    kept[len] = 0;
    parser->string_end += len + 1;
    return kept;
}

static const char *keep_quoted(struct parser *parser)
{
    char raw[VDC_EXPR_TEXT_MAX];
    size_t len = 0;
    const char *from = parser->text + parser->token.offset + 1;
    for (size_t i = 0; i + 2 < parser->token.len; i++) {
        i += from[i] == '\\' ? 1 : 0;
        raw[len++] = from[i];
    }
    return keep_string(parser, raw, len);
}

/* ---- operands ---- */

static void parse_number(struct parser *parser, struct operand *operand)
{
    char text[64];
    const struct token *token = &parser->token;
    if (token->len >= sizeof text) {
        fail_at(parser, token->offset, "a number that is too long");
        return;
    }
    memcpy(text, parser->text + token->offset, token->len);
    text[token->len] = 0;
    uint64_t value = 0;
    int64_t ns = 0;
    struct vdc_err err = {0};
    char last = text[token->len - 1];
    if (is_digit(last) || last == '%' || last == '.') {
        operand->type = TYPE_NUMBER;
        if (vdc_quantity_milli(text, &value, &err) != VDC_RC_OK) {
            fail_at(parser, token->offset, "%.200s", vdc_err_text(&err));
        }
    } else if (vdc_quantity_bytes(text, &value, &err) == VDC_RC_OK) {
        operand->type = TYPE_SIZE;
    } else if (vdc_quantity_duration(text, &ns, &err) == VDC_RC_OK) {
        operand->type = TYPE_DURATION;
        value = (uint64_t)ns;
    } else {
        fail_at(parser, token->offset,
                "\"%s\" is no number, size (KiB MiB GiB TiB K M G T) or duration (ms s m h d)",
                text);
    }
    operand->constant = true;
    operand->number = (int64_t)value;
    next_token(parser);
}

/* Says that `name` is no attribute of the subject(s), with the nearest one that is. */
static void fail_unknown_attribute(struct parser *parser, size_t offset, const char *subject,
                                   unsigned subjects, const char *name)
{
    const char *known[VDC_COUNT_OF(attributes)];
    size_t count = 0;
    for (size_t i = 0; i < VDC_COUNT_OF(attributes); i++) {
        if ((attributes[i].subject & subjects) != 0) {
            known[count++] = attributes[i].name;
        }
    }
    const char *nearest = vdc_nearest_name(name, known, count);
    if (nearest != NULL) {
        fail_at(parser, offset, "unknown attribute %s%.40s; did you mean %s%s?", subject, name,
                subject, nearest);
        return;
    }
    char list[160] = "";
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? " " : "", known[i]);
    }
    fail_at(parser, offset, "unknown attribute %s%.40s (known: %s)", subject, name, list);
}

/* The key behind `labels`: ".key" of letters, digits, '_' and '-', or ["any key"]. */
static const char *parse_label_key(struct parser *parser)
{
    if (token_is(parser, "[")) {
        next_token(parser);
        if (parser->token.kind != TOKEN_STRING || parser->failed) {
            fail_at(parser, parser->token.offset, "expected a label's key in quotes");
            return "";
        }
        const char *key = keep_quoted(parser);
        if (key[0] == 0 || strlen(key) > VDC_LABEL_MAX) {
            fail_at(parser, parser->token.offset, "a label's key has 1 to %d bytes", VDC_LABEL_MAX);
        }
        next_token(parser);
        expect(parser, "]", "behind a label's key");
        return key;
    }
    if (!token_is(parser, ".")) {
        fail_at(parser, parser->token.offset, "expected labels.KEY or labels[\"KEY\"]");
        return "";
    }
    size_t start = parser->at;
    size_t end = start;
    for (char c = peek(parser, end); is_letter(c) || is_digit(c) || c == '-';) {
        c = peek(parser, ++end);
    }
    if (end == start || end - start > VDC_LABEL_MAX) {
        fail_at(parser, start, "expected a label's key of 1 to %d letters, digits, '_' or '-'",
                VDC_LABEL_MAX);
        return "";
    }
    parser->at = end;
    const char *key = keep_string(parser, parser->text + start, end - start);
    next_token(parser);
    return key;
}

/* Copies the current word. */
static void take_word(struct parser *parser, char word[VDC_NAME_CAP])
{
    size_t len = VDC_MIN(parser->token.len, (size_t)VDC_NAME_MAX);
    memcpy(word, parser->text + parser->token.offset, len);
    word[len] = 0;
    next_token(parser);
}

static void parse_attribute(struct parser *parser, struct operand *operand)
{
    size_t offset = parser->token.offset;
    char word[VDC_NAME_CAP];
    take_word(parser, word);
    const char *prefix = "";
    unsigned subjects = parser->subjects;
    if (strcmp(word, "node") == 0 || strcmp(word, "partition") == 0) {
        prefix = word[0] == 'n' ? "node." : "partition.";
        subjects = word[0] == 'n' ? VDC_EXPR_NODE : VDC_EXPR_PARTITION;
        if ((subjects & parser->subjects) == 0) {
            fail_at(parser, offset, "%s cannot be used here, only %s", word,
                    subjects == VDC_EXPR_NODE ? "partition" : "node");
        }
        expect(parser, ".", "and an attribute's name");
        offset = parser->token.offset;
        if (parser->token.kind != TOKEN_WORD) {
            fail_at(parser, offset, "expected an attribute's name behind \"%s\"", prefix);
            return;
        }
        take_word(parser, word);
    } else if ((subjects & (subjects - 1)) != 0) {
        fail_at(parser, offset,
                "\"%.40s\" is not known; attributes are written node.NAME or partition.NAME, "
                "strings in quotes",
                word);
        return;
    }
    for (size_t i = 0; i < VDC_COUNT_OF(attributes); i++) {
        if ((attributes[i].subject & subjects) == 0 || strcmp(attributes[i].name, word) != 0) {
            continue;
        }
        operand->attribute = (enum attribute)i;
        operand->type = attributes[i].type;
        parser->expr->subjects |= attributes[i].subject;
        if (operand->attribute == NODE_LABEL || operand->attribute == PARTITION_LABEL) {
            operand->text = parse_label_key(parser);
        }
        return;
    }
    fail_unknown_attribute(parser, offset, prefix, subjects, word);
}

static void parse_operand(struct parser *parser, struct operand *operand)
{
    *operand = (struct operand){.type = TYPE_STRING};
    if (parser->failed) {
        return;
    }
    switch (parser->token.kind) {
    case TOKEN_STRING:
        operand->constant = true;
        operand->text = keep_quoted(parser);
        next_token(parser);
        return;
    case TOKEN_NUMBER:
        parse_number(parser, operand);
        return;
    case TOKEN_WORD:
        parse_attribute(parser, operand);
        return;
    case TOKEN_END:
        fail_at(parser, parser->token.offset, "it ends where an attribute or a constant is due");
        return;
    case TOKEN_SIGN:
        fail_at(parser, parser->token.offset, "expected an attribute or a constant");
        return;
    }
}

/* ---- conditions ---- */

static void check_types(struct parser *parser, size_t offset, const struct operand *left,
                        const struct operand *right)
{
    if (left->type == right->type || parser->failed) {
        return;
    }
    const struct operand *attribute = left->constant ? right : left;
    const struct operand *other = left->constant ? left : right;
    const char *hint = "";
    if (attribute->type == TYPE_STRING && other->constant) {
        hint = "; put it in quotes";
    } else if (attribute->type == TYPE_SIZE && other->type == TYPE_NUMBER) {
        hint = "; write a unit behind it, such as GiB";
    }
    fail_at(parser, offset, "compares %s with %s%s", type_texts[left->type],
            type_texts[right->type], hint);
}

static void parse_in_list(struct parser *parser, const struct operand *left)
{
    struct step step = {.kind = STEP_IN, .left = *left};
    struct vdc_expr *expr = parser->expr;
    expect(parser, "[", "behind \"in\"");
    step.list = expr->constant_count;
    do {
        struct operand constant;
        size_t offset = parser->token.offset;
        parse_operand(parser, &constant);
        if (!constant.constant) {
            fail_at(parser, offset, "a list holds constants only");
        }
        check_types(parser, offset, left, &constant);
        VDC_GROW(expr->constants, expr->constant_cap, expr->constant_count + 1);
        expr->constants[expr->constant_count++] = constant;
        step.list_count++;
    } while (accept(parser, ","));
    expect(parser, "]", "at the end of the list");
    *add_step(parser, STEP_IN) = step;
}

static bool accept_compare(struct parser *parser, enum compare *compare)
{
    static const char *const signs[] = {"==", "!=", "<", "<=", ">", ">="};
    for (size_t i = 0; i < VDC_COUNT_OF(signs); i++) {
        if (accept(parser, signs[i])) {
            *compare = (enum compare)i;
            return true;
        }
    }
    return false;
}

static void parse_comparison(struct parser *parser)
{
    size_t offset = parser->token.offset;
    struct operand left;
    parse_operand(parser, &left);
    if (accept(parser, "in")) {
        if (left.constant) {
            fail_at(parser, offset, "expected an attribute before \"in\"");
        }
        parse_in_list(parser, &left);
        return;
    }
    enum compare compare = EQUAL;
    if (!accept_compare(parser, &compare)) {
        fail_at(parser, parser->token.offset, "expected a comparison (== != < <= > >= in)");
        return;
    }
    size_t right_offset = parser->token.offset;
    struct operand right;
    parse_operand(parser, &right);
    if (left.constant && right.constant) {
        fail_at(parser, offset, "compares two constants");
    }
    check_types(parser, left.constant ? offset : right_offset, &left, &right);
    struct step *step = add_step(parser, STEP_COMPARE);
    step->compare = compare;
    step->left = left;
    step->right = right;
}

static void parse_has(struct parser *parser)
{
    expect(parser, "(", "behind \"has\"");
    size_t offset = parser->token.offset;
    struct operand operand;
    parse_operand(parser, &operand);
    if (operand.constant) {
        fail_at(parser, offset, "has() takes an attribute");
    }
    expect(parser, ")", "behind has(...");
    add_step(parser, STEP_HAS)->left = operand;
}

static void parse_or(struct parser *parser);

static void parse_unary(struct parser *parser)
{
    if (parser->failed) {
        return;
    }
    if (++parser->depth > VDC_EXPR_DEPTH_MAX) {
        fail_at(parser, parser->token.offset, "nested too deeply, at most %d levels are allowed",
                VDC_EXPR_DEPTH_MAX);
        return;
    }
    if (accept(parser, "!")) {
        parse_unary(parser);
        add_step(parser, STEP_NOT);
    } else if (accept(parser, "(")) {
        parse_or(parser);
        expect(parser, ")", "to close the parenthesis");
    } else if (accept(parser, "has")) {
        parse_has(parser);
    } else if (token_is(parser, "true") || token_is(parser, "false")) {
        add_step(parser, STEP_CONSTANT)->value = token_is(parser, "true");
        next_token(parser);
    } else {
        parse_comparison(parser);
    }
    parser->depth--;
}

static void parse_and(struct parser *parser)
{
    parse_unary(parser);
    while (accept(parser, "&&")) {
        parse_unary(parser);
        add_step(parser, STEP_AND);
    }
}

static void parse_or(struct parser *parser)
{
    parse_and(parser);
    while (accept(parser, "||")) {
        parse_and(parser);
        add_step(parser, STEP_OR);
    }
}

/* What stands behind a complete expression, with a hint for the words of other languages. */
static void expect_end(struct parser *parser)
{
    static const char *const words[][2] = {
        {"and", "&&"}, {"or", "||"}, {"AND", "&&"}, {"OR", "||"}};
    for (size_t i = 0; i < VDC_COUNT_OF(words); i++) {
        if (token_is(parser, words[i][0])) {
            fail_at(parser, parser->token.offset, "\"%s\": write %s", words[i][0], words[i][1]);
        }
    }
    if (parser->token.kind != TOKEN_END) {
        fail_at(parser, parser->token.offset, "expected && or || or the end");
    }
}

enum vdc_rc vdc_expr_compile(const char *text, size_t len, unsigned subjects,
                             struct vdc_expr **expr, struct vdc_expr_error *error)
{
    *expr = NULL;
    *error = (struct vdc_expr_error){0};
    VDC_ASSERT(subjects != 0);
    if (len > VDC_EXPR_TEXT_MAX) {
        snprintf(error->text, sizeof error->text, "%zu bytes, at most %d are allowed", len,
                 VDC_EXPR_TEXT_MAX);
        return VDC_RC_TOO_LARGE;
    }
    struct vdc_expr *made = VDC_NEW(struct vdc_expr);
    made->text = vdc_calloc(len + 1, 1);
    memcpy(made->text, text, len);
    made->strings = vdc_calloc(len + 1, 1);
    struct parser parser = {.text = made->text,
                            .len = len,
                            .subjects = subjects,
                            .expr = made,
                            .string_end = made->strings,
                            .error = error};
    if (strlen(made->text) != len) {
        fail_at(&parser, strlen(made->text), "a NUL character");
    }
    next_token(&parser);
    if (parser.token.kind == TOKEN_END) {
        fail_at(&parser, 0, "an empty expression");
    }
    parse_or(&parser);
    expect_end(&parser);
    if (parser.failed) {
        vdc_expr_destroy(made);
        return VDC_RC_INVALID;
    }
    *expr = made;
    return VDC_RC_OK;
}

void vdc_expr_destroy(struct vdc_expr *expr)
{
    if (expr == NULL) {
        return;
    }
    free(expr->text);
    free(expr->strings);
    free(expr->steps);
    free(expr->constants);
    free(expr);
}

unsigned vdc_expr_subjects(const struct vdc_expr *expr)
{
    return expr->subjects;
}

const char *vdc_expr_text(const struct vdc_expr *expr)
{
    return expr->text;
}

/* ---- evaluation ---- */

struct value {
    const char *text; /* of a string; NULL: the label is not there */
    int64_t number;   /* of the other types */
};

static const char *find_label(const struct vdc_policy_label *labels, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(labels[i].key, key) == 0) {
            return labels[i].value;
        }
    }
    return NULL;
}

static int64_t clamp(uint64_t number)
{
    return number > INT64_MAX ? INT64_MAX : (int64_t)number;
}

static struct value value_of(const struct operand *operand, const struct vdc_policy_node *node,
                             const struct vdc_policy_partition *partition)
{
    if (operand->constant) {
        return (struct value){.text = operand->text, .number = operand->number};
    }
    switch (operand->attribute) {
    case NODE_NAME:
        return (struct value){.text = node->name};
    case NODE_RACK:
        return (struct value){.text = node->rack};
    case NODE_LABEL:
        return (struct value){.text = find_label(node->labels, node->label_count, operand->text)};
    case NODE_NUMA_NODES:
        return (struct value){.number = INT64_C(1000) * node->numa_nodes};
    case NODE_CPUS:
        return (struct value){.number = INT64_C(1000) * node->cpus};
    case NODE_MEMORY:
        return (struct value){.number = clamp(node->memory_bytes)};
    case NODE_CPU_MODEL:
        return (struct value){.text = node->cpu_model};
    case NODE_ACCELERATOR:
        return (struct value){.text = node->accelerator};
    case PARTITION_NAME:
        return (struct value){.text = partition->name};
    case PARTITION_TENANT:
        return (struct value){.text = partition->tenant};
    case PARTITION_CLASS:
        return (struct value){.text = partition->class_name};
    case PARTITION_LABEL:
        return (struct value){
            .text = find_label(partition->labels, partition->label_count, operand->text)};
    case PARTITION_VCPUS:
        return (struct value){.number = INT64_C(1000) * partition->vcpus};
    case PARTITION_MEMORY:
        return (struct value){.number = clamp(partition->memory_bytes)};
    }
    return (struct value){0};
}

static bool compare_values(enum type type, enum compare compare, struct value left,
                           struct value right)
{
    int order;
    if (type == TYPE_STRING) {
        if (left.text == NULL || right.text == NULL) {
            return compare == UNEQUAL;
        }
        order = strcmp(left.text, right.text);
    } else {
        order = left.number < right.number ? -1 : left.number > right.number;
    }
    switch (compare) {
    case EQUAL:
        return order == 0;
    case UNEQUAL:
        return order != 0;
    case LESS:
        return order < 0;
    case LESS_EQUAL:
        return order <= 0;
    case GREATER:
        return order > 0;
    case GREATER_EQUAL:
        return order >= 0;
    }
    return false;
}

static bool is_in_list(const struct vdc_expr *expr, const struct step *step, struct value value)
{
    for (size_t i = 0; i < step->list_count; i++) {
        struct value item = value_of(&expr->constants[step->list + i], NULL, NULL);
        if (compare_values(step->left.type, EQUAL, value, item)) {
            return true;
        }
    }
    return false;
}

bool vdc_expr_eval(const struct vdc_expr *expr, const struct vdc_policy_node *node,
                   const struct vdc_policy_partition *partition)
{
    VDC_ASSERT((expr->subjects & VDC_EXPR_NODE) == 0 || node != NULL);
    VDC_ASSERT((expr->subjects & VDC_EXPR_PARTITION) == 0 || partition != NULL);
    bool stack[STACK_MAX];
    size_t top = 0;
    for (size_t i = 0; i < expr->step_count; i++) {
        const struct step *step = &expr->steps[i];
        struct value left = {0};
        switch (step->kind) {
        case STEP_COMPARE:
            left = value_of(&step->left, node, partition);
            VDC_ASSERT(top < STACK_MAX);
            stack[top++] = compare_values(step->left.type, step->compare, left,
                                          value_of(&step->right, node, partition));
            break;
        case STEP_IN:
            left = value_of(&step->left, node, partition);
            VDC_ASSERT(top < STACK_MAX);
            stack[top++] = is_in_list(expr, step, left);
            break;
        case STEP_HAS:
            left = value_of(&step->left, node, partition);
            VDC_ASSERT(top < STACK_MAX);
            /* A label may be there and empty; a rack, tenant or model that is "" is not known. */
            stack[top++] = step->left.type != TYPE_STRING || step->left.text != NULL
                               ? step->left.type != TYPE_STRING || left.text != NULL
                               : left.text[0] != 0;
            break;
        case STEP_CONSTANT:
            VDC_ASSERT(top < STACK_MAX);
            stack[top++] = step->value;
            break;
        case STEP_NOT:
            stack[top - 1] = !stack[top - 1];
            break;
        case STEP_AND:
            top--;
            stack[top - 1] = stack[top - 1] && stack[top];
            break;
        case STEP_OR:
            top--;
            stack[top - 1] = stack[top - 1] || stack[top];
            break;
        }
    }
    VDC_ASSERT(top == 1);
    return stack[0];
}
