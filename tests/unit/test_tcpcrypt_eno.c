/* SPDX-License-Identifier: BSD-3-Clause
 * The ENO option on the wire.
 */
#include "tcpcrypt/eno.h"
#include "vectors.h"

#include <string.h>

/* RFC 8547 4.1 to 4.4 */
static void check_parse(json_t *c)
{
    struct bytes option = vec_hex(c, "option");
    struct eno_option o;
    enum tcns_err e = eno_parse(option.p, option.len, &o);

    if (!vec_bool(c, "well_formed")) {
        assert_int_equal(e, TCNS_ERR_ENO_ILL_FORMED);
        return;
    }
    assert_int_equal(e, TCNS_OK);
    json_t *subs = vec_list(c, "suboptions");
    assert_int_equal(o.sub_cnt, json_array_size(subs));
    for (size_t i = 0; i < o.sub_cnt; i++) {
        json_t *sub = json_array_get(subs, i);

        assert_int_equal(o.sub[i].first, vec_hex_int(sub, "first_byte"));
        assert_int_equal(o.sub[i].first & ENO_GLT_MASK, vec_hex_int(sub, "glt"));
        assert_int_equal(!!(o.sub[i].first & ENO_V), vec_bool(sub, "v"));
        assert_int_equal(eno_is_tep(&o.sub[i]), vec_is(sub, "type", "tep"));
        assert_bytes(vec_hex(sub, "data"), o.sub[i].data, o.sub[i].data_len);
    }
    assert_int_equal(!!(o.global & ENO_GLOBAL_A), vec_bool(c, "a"));
    assert_int_equal(!!(o.global & ENO_GLOBAL_B), vec_bool(c, "b"));
    assert_int_equal(o.vacuous, vec_bool(c, "vacuous"));
}

/* RFC 8547 4.4 */
static void check_encode(json_t *c)
{
    struct eno_suboption subs[ENO_SUBOPTION_MAX_CNT];
    json_t *list = vec_list(c, "suboptions");
    size_t cnt = json_array_size(list);
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    for (size_t i = 0; i < cnt; i++) {
        json_t *sub = json_array_get(list, i);
        struct bytes data = vec_hex(sub, "data");

        subs[i] = (struct eno_suboption){.first = (uint8_t)vec_hex_int(sub, "first_byte"),
                                         .data = data.p,
                                         .data_len = (uint8_t)data.len};
    }
    assert_int_equal(eno_emit(subs, cnt, out, &len), TCNS_OK);
    assert_bytes(vec_hex(c, "option"), out, len);
}

/* RFC 8547 4.1: several options count as none */
static void check_area(json_t *c)
{
    struct bytes area = vec_hex(c, "options_area");
    const uint8_t *option = NULL;
    size_t len = 0;
    size_t cnt = eno_scan(area.p, area.len, &option, &len);

    if (vec_has(c, "eno_option")) {
        assert_int_equal(cnt, 1);
        assert_bytes(vec_hex(c, "eno_option"), option, len);
    } else {
        assert_int_not_equal(cnt, 1);
    }
}

static void test_parse(void **state)
{
    vectors_run("eno_parse", check_parse);
}

static void test_encode(void **state)
{
    vectors_run("eno_encode", check_encode);
}

static void test_area(void **state)
{
    vectors_run("eno_options_area", check_area);
}

/* End of list ends it, also where the rest would parse. */
static void test_area_after_end_of_list(void **state)
{
    const uint8_t area[] = {0, 2, ENO_KIND, 3, 0x23};
    const uint8_t *option;
    size_t len;

    assert_int_equal(eno_scan(area, sizeof(area), &option, &len), 0);
    assert_int_equal(eno_scan(area + 2, sizeof(area) - 2, &option, &len), 1);
}

static void test_parse_refuses_wrong_frame(void **state)
{
    uint8_t option[ENO_OPTION_MAX_LEN + 1] = {ENO_KIND, sizeof(option)};
    struct eno_option o;

    assert_int_equal(eno_parse(option, 0, &o), TCNS_ERR_ENO_ILL_FORMED);
    assert_int_equal(eno_parse(option, 1, &o), TCNS_ERR_ENO_ILL_FORMED);
    assert_int_equal(eno_parse(option, sizeof(option), &o), TCNS_ERR_ENO_ILL_FORMED);
    option[1] = 3; /* the length byte does not match */
    assert_int_equal(eno_parse(option, 4, &o), TCNS_ERR_ENO_ILL_FORMED);
    option[0] = 2;
    assert_int_equal(eno_parse(option, 3, &o), TCNS_ERR_ENO_ILL_FORMED);
}

static void test_emit_refuses_what_has_no_encoding(void **state)
{
    uint8_t data[ENO_OPTION_MAX_LEN] = {0};
    struct eno_suboption two[2] = {{.first = 0xa3, .data = data}, {.first = 0x21}};
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len = 99;

    memset(out, 0x5a, sizeof(out));
    two[0].data_len = 0; /* no length byte means no bytes */
    assert_int_equal(eno_emit(two, 2, out, &len), TCNS_ERR_TOO_LARGE);
    two[0].data_len = ENO_COUNTED_DATA_MAX_LEN + 1;
    assert_int_equal(eno_emit(two, 2, out, &len), TCNS_ERR_TOO_LARGE);
    two[0].data_len = ENO_OPTION_MAX_LEN - ENO_HEADER_LEN; /* one byte too many */
    assert_int_equal(eno_emit(two, 1, out, &len), TCNS_ERR_TOO_LARGE);
    assert_int_equal(len, 99);
    assert_int_equal(out[0], 0x5a);
    two[0].data_len = ENO_OPTION_MAX_LEN - ENO_HEADER_LEN - 1;
    assert_int_equal(eno_emit(two, 1, out, &len), TCNS_OK);
    assert_int_equal(len, ENO_OPTION_MAX_LEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_parse, vectors_blame),
        cmocka_unit_test_teardown(test_encode, vectors_blame),
        cmocka_unit_test_teardown(test_area, vectors_blame),
        cmocka_unit_test(test_area_after_end_of_list),
        cmocka_unit_test(test_parse_refuses_wrong_frame),
        cmocka_unit_test(test_emit_refuses_what_has_no_encoding),
    };

    return cmocka_run_group_tests_name("tcpcrypt/eno", tests, vectors_setup, vectors_teardown);
}
