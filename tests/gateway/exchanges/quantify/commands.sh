curl "$API_BASE_URL/v1/issues/PLAT-142/activity?page_size=2" \
-H "Authorization: Bearer $ACCESS_TOKEN"

curl "$API_BASE_URL/v1/issues/PLAT-142/attachments" \
-H "Authorization: Bearer $ACCESS_TOKEN"

curl "$API_BASE_URL/v1/issues/PLAT-142/attachments/att_overview_pdf" \
-H "Authorization: Bearer $ACCESS_TOKEN"

curl -I "$API_BASE_URL/v1/issues/PLAT-142/attachments/att_overview_pdf/content" \
-H "Authorization: Bearer $ACCESS_TOKEN"

curl -I "$API_BASE_URL/v1/issues/PLAT-142/attachments/att_overview_pdf/preview" \
-H "Authorization: Bearer $ACCESS_TOKEN"

curl "$API_BASE_URL/v1/issues/PLAT-142/links" \
-H "Authorization: Bearer $ACCESS_TOKEN"

curl -X POST "$API_BASE_URL/v1/issues/PLAT-142/links" \
-H "Authorization: Bearer $ACCESS_TOKEN" \
-H "Content-Type: application/json" \
-d '{
"url": "https://example.com/pull-request",
"title": "Docs PR"
}'

curl -X DELETE "$API_BASE_URL/v1/issues/PLAT-142/links/link_docs_pr" \
-H "Authorization: Bearer $ACCESS_TOKEN"

curl "$API_BASE_URL/v1/issues/PLAT-142/subissues?include_completed=false" \
-H "Authorization: Bearer $ACCESS_TOKEN"
